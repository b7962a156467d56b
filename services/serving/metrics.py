"""A stage's metrics, exported by Ray with its application, deployment and replica as labels.

docs/metrics.md lists them all. Labels are bounded: no prompt, id or address is one. Spans get the same of
their request.
"""

from __future__ import annotations

import threading
import time
from typing import ClassVar

import torch
from opentelemetry import trace
from ray.serve import metrics

from services.bundles.bundle import Manifest
from services.engine import Ending, EngineLimits, Refusal, Stay, Watcher

# Steps take milliseconds on a GPU and seconds on a CPU; waits up to minutes.
STEP_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
WAIT_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]
REPEAT_SECONDS = 2.0
OCCUPANCY = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]


class StandingGauge:
    """A gauge that says its last values again every REPEAT_SECONDS: Ray forgets one that is not set."""

    _all: ClassVar[list[StandingGauge]] = []
    _lock: ClassVar[threading.Lock] = threading.Lock()  # a value said again must not undo a newer one

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...] = ()) -> None:
        self._gauge = metrics.Gauge(name, description, tag_keys=tag_keys)
        self._values: dict[tuple[tuple[str, str], ...], float] = {}
        if not self._all:
            threading.Thread(target=self._repeat_all, name="gauges", daemon=True).start()
        self._all.append(self)

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Show a value from now on."""
        with self._lock:
            self._values[tuple((tags or {}).items())] = value
            self._gauge.set(value, tags)

    @classmethod
    def _repeat_all(cls) -> None:
        while True:
            time.sleep(REPEAT_SECONDS)
            for gauge in list(cls._all):
                with cls._lock:
                    for tags, value in gauge._values.items():
                        gauge._gauge.set(value, dict(tags))


def show_model(manifest: Manifest, load_seconds: float) -> None:
    """Tell which model the replica serves, and how many seconds it took to load and verify it."""
    info = StandingGauge(
        "unclip_model_info", "1 for the model that the replica serves.", tag_keys=("model", "version")
    )
    info.set(1, {"model": manifest.name, "version": manifest.version})
    StandingGauge("unclip_model_load_seconds", "Seconds it took to load and verify the model.").set(
        load_seconds
    )


class EngineMetrics(Watcher):
    """An engine's metrics."""

    def __init__(self, limits: EngineLimits) -> None:
        self._running = StandingGauge("unclip_rows_running", "Rows that have begun.")
        self._waiting = StandingGauge("unclip_rows_waiting", "Rows in the queue.")
        self._memory = StandingGauge(
            "unclip_device_memory_bytes", "Memory of the accelerator that torch has allocated."
        )
        StandingGauge("unclip_places", "Rows that can run at a time.").set(limits.max_running)
        StandingGauge("unclip_queue_places", "Rows that can wait.").set(limits.max_waiting)
        self._wait = metrics.Histogram(
            "unclip_queue_wait_seconds", "Seconds from a request's arrival to its first step.", WAIT_SECONDS
        )
        self._step = metrics.Histogram(
            "unclip_step_seconds", "Seconds of one step.", STEP_SECONDS, tag_keys=("network",)
        )
        self._occupancy = metrics.Histogram(
            "unclip_batch_occupancy",
            "Evaluations of a step over those of a full call.",
            OCCUPANCY,
            ("network",),
        )
        self._full = metrics.Counter(
            "unclip_full_seconds", "Seconds that the work of all steps takes in full calls."
        )
        self._steps = metrics.Counter(
            "unclip_row_steps", "Steps taken, counted once for each row.", tag_keys=("network",)
        )
        self._in_vain = metrics.Counter(
            "unclip_row_steps_in_vain", "Steps of rows that left before they were finished."
        )
        self._refused = metrics.Counter(
            "unclip_rows_refused", "Requests turned away on arrival.", tag_keys=("reason",)
        )
        self._ended = metrics.Counter("unclip_rows_ended", "Rows that left.", tag_keys=("ending",))
        self.busy(0, 0)

    def refused(self, reason: Refusal) -> None:
        """Count it."""
        self._refused.inc(tags={"reason": reason})

    def started(self, rows: int, waited: float) -> None:
        """Note the wait."""
        self._wait.observe(waited)

    def stepped(self, network: str, rows: int, occupancy: float, seconds: float, full_seconds: float) -> None:
        """Note what the step cost and how full it was."""
        tags = {"network": network}
        self._step.observe(seconds, tags)
        self._occupancy.observe(occupancy, tags)
        if full_seconds:
            self._full.inc(full_seconds)
        self._steps.inc(rows, tags)
        self._memory.set(torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)

    def ended(self, ending: Ending, stay: Stay) -> None:
        """Count them, and add to the request's span what they had of the engine."""
        self._ended.inc(stay.rows, {"ending": ending})
        if ending != "finished" and stay.row_steps:
            self._in_vain.inc(stay.row_steps)
        trace.get_current_span().set_attributes(
            {
                "unclip.ending": ending,
                "unclip.rows": stay.rows,
                "unclip.queue_wait_seconds": stay.waited,
                "unclip.steps": stay.steps,
                "unclip.batch_occupancy": stay.occupancy,
            }
        )

    def busy(self, running: int, waiting: int) -> None:
        """Show it."""
        self._running.set(running)
        self._waiting.set(waiting)
