"""The image encoder (SwAV), whose features other families generate from."""
