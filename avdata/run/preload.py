"""What every process of the pool needs, imported once: all of them are forked from where it is.

Nothing that starts threads, and nothing heavy: taggers and scorers import their own.
"""

import importlib
import os

from avdata.run.lean import without_pandas

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # parts run side by side; numpy reads it when it is imported

without_pandas()
for module in (
    *("av", "filelock", "pyarrow.parquet", "simplejpeg", "soundfile"),
    *("avdata.run.part", "avdata.sources.http", "avdata.media.decode"),
    *(f"avdata.steps.{step}" for step in ("fetch", "trim", "tag", "select", "shard")),
):
    importlib.import_module(module)
