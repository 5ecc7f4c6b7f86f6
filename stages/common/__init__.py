"""What every trainer stands on; README.md shows a whole trainer."""
