"""What the stages have done, by the metrics that Ray exports."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Work:
    """Steps of rows since the stages started: all, those in vain, and the prior's."""

    steps: float
    in_vain: float
    prior_steps: float

    @classmethod
    def now(cls, metrics: str) -> Work:
        """By the metrics that Ray exports."""
        with urllib.request.urlopen(metrics, timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples]

        def total(name: str, **labels: str) -> float:
            found = (s for s in samples if s.name == name and labels.items() <= s.labels.items())
            return sum(sample.value for sample in found)

        return cls(
            total("ray_unclip_row_steps_total"),
            total("ray_unclip_row_steps_in_vain_total"),
            total("ray_unclip_row_steps_total", application="prior"),
        )

    def share_in_vain(self, before: Work, *, done: int, refused_late: int, missed: int) -> float:
        """Of the steps since then, at most.

        A picture that was missed counts whole, since it may have been drawn too late. One that a stage
        refused counts with the prior's steps.
        """
        steps = self.steps - before.steps
        started = max(done + refused_late + missed, 1)
        priors = (self.prior_steps - before.prior_steps) * refused_late
        return (self.in_vain - before.in_vain + (steps * missed + priors) / started) / max(steps, 1)
