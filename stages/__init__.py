"""Training, generation and evaluation: one program per file, from the shards that avdata packs."""
