"""A whole run: plan parts (plan.py), bring each through the steps (part.py), here or on a cluster
(executors.py), pack shards and summarise (pipeline.py)."""

from avdata.run.pipeline import STEPS, run

__all__ = ["STEPS", "run"]
