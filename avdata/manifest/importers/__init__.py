"""Importers: from a dataset's own official files to manifest rows.

An importer is a module with a settings class `Options` and a function `rows(files, options)` that
yields rows in the manifest's columns; what it cannot read it yields as a ClipError in its place.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avdata.clip import Clip
from avdata.errors import ClipError, ManifestError
from avdata.manifest.importers.local_copy import CopyOptions, LocalCopy
from avdata.manifest.keys import KeySet
from avdata.manifest.rows import Row, clips_from
from avdata.strict import build

IMPORTERS: Mapping[str, str] = {
    "vggsound": "VGGSound lists: vggsound.csv, id_start.mp4,label or id_startms_endms",
    "vggss": "VGG-SS JSON: boxes around sounding objects",
    "audioset": "AudioSet segments CSV",
    "vas": "VAS and VEGAS lists: class/video_00000",
    "into_the_wild": "Into the Wild metadata, xlsx or csv",
    "greatest_hits": "The Greatest Hits: split lists and hit records, archives read in place",
    "celebv_hq": "CelebV-HQ JSON",
    "esc50": "ESC-50: meta/esc50.csv, sounds alone",
    "urbansound8k": "UrbanSound8K: metadata/UrbanSound8K.csv, sounds alone",
    "folder": "Any folder of media files",
}


def import_clips(
    importer: str,
    files: Sequence[Path],
    options: Mapping[str, Any],
    common: Mapping[str, str],
    base: str,
) -> Iterator[Clip]:
    """Yield the clips of official files; bad lines come out as FAILED clips in their place.

    `common` holds columns that are the same in every row (dataset, licence, attribution). Relative
    media paths are resolved against `base`. Raises ManifestError for files that cannot be read at
    all, SettingsError for unknown options.
    """
    if importer not in IMPORTERS:
        raise ManifestError(f"no importer {importer!r}; there are: {', '.join(IMPORTERS)}")
    module = importlib.import_module(f"avdata.manifest.importers.{importer}")
    settings = build(module.Options, options, f"options of the importer {importer}")
    for file in files:
        if not file.exists():
            raise ManifestError(f"no such file or folder: {file}")
    rows: Iterator[Row] = module.rows(files, settings)
    if isinstance(settings, CopyOptions) and settings.media is not None:
        copy = LocalCopy(settings.media, settings.cut)
        rows = copy.located(rows, common.get("dataset", ""))
    rows = _with_common(rows, common)
    return clips_from(rows, base, KeySet())


def _with_common(rows: Iterator[Row], common: Mapping[str, str]) -> Iterator[Row]:
    for place, values in rows:
        yield place, values if isinstance(values, ClipError) else {**common, **values}
