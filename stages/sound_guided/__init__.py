"""Robust sound-guided image manipulation: sound joins a text-image space and moves pictures."""
