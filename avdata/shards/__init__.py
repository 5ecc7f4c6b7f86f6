"""A folder of shards: its format, the order of samples, what is read of each, proof it is whole."""
