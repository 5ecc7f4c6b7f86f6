"""What trainings read beside the loader: clips and their classes, cached features, pairs."""
