"""What every trainer stands on: a run, its batches, its checkpoints; README.md."""
