"""Manifests: one schema, read and written in several formats, made from each dataset's own lists.

table.py reads and writes; text_rows.py, rows.py and keys.py turn lines into clips or reasons;
datasets.py gets a dataset's official list, and importers/ has one file per family of lists.
"""

from avdata.manifest.table import iter_manifest, join_manifests, write_manifest

__all__ = ["iter_manifest", "join_manifests", "write_manifest"]
