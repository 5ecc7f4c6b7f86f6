"""webdataset's TarWriter, without the rest of webdataset.

`import webdataset` also imports torch where torch is installed: 140 MB and seconds that every data
worker would pay for nothing. The module with the writer needs none of it, so it is imported below
an empty package of another name; the real package stays as it is for whoever imports it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from importlib.machinery import ModuleSpec
from typing import Any

PACKAGE = "_avdata_webdataset"


@cache
def tar_writer() -> Any:
    """Return the class webdataset.TarWriter."""
    whole = importlib.util.find_spec("webdataset")
    if whole is None:
        raise ModuleNotFoundError("webdataset is not installed", name="webdataset")
    spec = ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = whole.submodule_search_locations
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{PACKAGE}.writer").TarWriter
