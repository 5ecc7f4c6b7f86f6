"""avdata: clean pairs of sight and sound, from a list of videos to training shards."""

__version__ = "0.1.0"
