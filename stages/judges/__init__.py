"""Encoders that judge what was made: CLIP, Inception, mean colours; and a probe over any."""
