"""Metrics: pure functions over feature arrays, float64, nothing read or written."""
