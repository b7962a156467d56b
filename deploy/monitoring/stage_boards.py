"""Dashboards of the stages: their engines, their scaling and their models."""

from __future__ import annotations

from deploy.monitoring.panels import WINDOW, Board, Panel, Query, Row, quantiles, rate

STAGES = Board(
    "stages",
    "unclip / Stages and engine",
    (
        Row(
            "Where time goes",
            (
                Panel(
                    "Time in a stage",
                    "s",
                    "One picture's time in each stage.",
                    quantiles("unclip_stage_seconds", "stage"),
                ),
                Panel(
                    "Queue wait",
                    "s",
                    "From a request's arrival in a stage to its first step.",
                    quantiles("ray_unclip_queue_wait_seconds", "application"),
                ),
                Panel(
                    "Step time",
                    "s",
                    "One step of one network.",
                    quantiles("ray_unclip_step_seconds", "network"),
                ),
            ),
        ),
        Row(
            "Engine",
            (
                Panel(
                    "Rows",
                    "short",
                    "Rows that have begun, and rows that wait.",
                    (
                        Query("sum by (application) (ray_unclip_rows_running)", "{{application}} running"),
                        Query("sum by (application) (ray_unclip_rows_waiting)", "{{application}} waiting"),
                    ),
                ),
                Panel(
                    "Batch occupancy",
                    "percentunit",
                    "Evaluations of a step over those of a full call.",
                    (
                        Query(
                            f"sum by (network) (rate(ray_unclip_batch_occupancy_sum[{WINDOW}]))"
                            f" / sum by (network) (rate(ray_unclip_batch_occupancy_count[{WINDOW}]))",
                            "{{network}}",
                        ),
                    ),
                ),
                Panel(
                    "Row steps",
                    "ops",
                    "Steps a second, counted for each row; in vain: of rows that left unfinished.",
                    (
                        Query(rate("ray_unclip_row_steps_total", "network"), "{{network}}"),
                        Query(f"sum(rate(ray_unclip_row_steps_in_vain_total[{WINDOW}]))", "in vain"),
                    ),
                ),
                Panel(
                    "Rows that left",
                    "ops",
                    "Finished, cancelled, expired, failed; finished rows of the decoder are pictures.",
                    (
                        Query(
                            rate("ray_unclip_rows_ended_total", "application", "ending"),
                            "{{application}} {{ending}}",
                        ),
                    ),
                ),
                Panel(
                    "Refused on arrival",
                    "ops",
                    "By a stage: full queues, deadlines that could not be met. The door refuses most.",
                    (
                        Query(
                            rate("ray_unclip_rows_refused_total", "application", "reason") + " or vector(0)",
                            "{{application}} {{reason}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
CAPACITY = Board(
    "capacity",
    "unclip / Scaling and capacity",
    (
        Row(
            "Replicas",
            (
                Panel(
                    "Replicas",
                    "short",
                    "Replicas of each stage that have loaded their model.",
                    (Query("count by (application) (ray_unclip_model_info)", "{{application}}"),),
                ),
                Panel(
                    "Load",
                    "percentunit",
                    "Work over what full calls would do in the time, and rows over places: the larger of them"
                    " is what scaling follows.",
                    (
                        Query(
                            f"sum by (application) (rate(ray_unclip_full_seconds_total[{WINDOW}]))"
                            " / count by (application) (ray_unclip_model_info)",
                            "{{application}} time",
                        ),
                        Query(
                            "(sum by (application) (ray_unclip_rows_running)"
                            " + sum by (application) (ray_unclip_rows_waiting))"
                            " / sum by (application) (ray_unclip_places)",
                            "{{application}} rows",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Resources",
            (
                Panel(
                    "Pictures",
                    "ops",
                    "Pictures a second.",
                    (
                        Query(
                            "sum by (application) (rate(ray_unclip_rows_ended_total"
                            f'{{application=~"(.*-)?decoder", ending="finished"}}[{WINDOW}]))',
                            "{{application}}",
                        ),
                    ),
                ),
                Panel(
                    "Device memory",
                    "bytes",
                    "What torch has allocated.",
                    (
                        Query(
                            "sum by (application, replica) (ray_unclip_device_memory_bytes)",
                            "{{application}} {{replica}}",
                        ),
                    ),
                ),
                Panel(
                    "Node CPU",
                    "percent",
                    "Of each Ray node.",
                    (Query("ray_node_cpu_utilization", "{{instance}}"),),
                ),
                Panel(
                    "Node memory",
                    "bytes",
                    "Used on each Ray node.",
                    (Query("ray_node_mem_used", "{{instance}}"),),
                ),
            ),
        ),
    ),
)
MODELS = Board(
    "models",
    "unclip / Models",
    (
        Row(
            "Versions",
            (
                Panel(
                    "Replicas by version",
                    "short",
                    "During a rollout two versions serve side by side.",
                    (
                        Query(
                            "count by (application, version) (ray_unclip_model_info)",
                            "{{application}} {{version}}",
                        ),
                    ),
                ),
                Panel(
                    "Gateways by version",
                    "short",
                    "What each gateway believes is served.",
                    (
                        Query(
                            "count by (model, version) (unclip_gateway_model_info)", "{{model}} {{version}}"
                        ),
                    ),
                ),
                Panel(
                    "Mismatch",
                    "short",
                    "1 while stages serve different versions.",
                    (Query("max by (model) (unclip_model_mismatch)", "{{model}}"),),
                ),
                Panel(
                    "Load time",
                    "s",
                    "What loading and verifying a model took.",
                    (Query("max by (application) (ray_unclip_model_load_seconds)", "{{application}}"),),
                ),
            ),
        ),
    ),
)
