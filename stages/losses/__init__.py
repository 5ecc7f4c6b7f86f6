"""Losses: one file per family, each reads like its equation."""
