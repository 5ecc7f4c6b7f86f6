"""Known datasets: where the official list of each is at home, and how it becomes a manifest.

One file `manifests/NAME.yaml` describes each. The lists themselves are not ours to ship.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avdata.clip import Clip
from avdata.errors import ManifestError
from avdata.manifest.importers import IMPORTERS, import_clips
from avdata.parsing import parse_yaml
from avdata.shipped import find, shipped_names
from avdata.strict import build, setting

MAX_LIST_BYTES = 2**30
CHUNK_BYTES = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFile:
    """One official file."""

    name: str = setting("", "File name; importers may read the split from it.")
    urls: tuple[str, ...] = setting((), "Where it is at home, then mirrors, tried in this order.")
    sha256: str | None = setting(None, "64 hex digits, where the file never changes.")

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise ValueError(f"name must be a plain file name, got {self.name!r}")
        if not self.urls or any(not u.startswith(("https://", "http://")) for u in self.urls):
            raise ValueError(f"urls of {self.name} must be http(s), got {list(self.urls)}")
        if self.sha256 is not None and len(self.sha256) != 64:
            raise ValueError(f"sha256 of {self.name} must be 64 hex digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What manifests/NAME.yaml says."""

    title: str = setting("", "The dataset's own name.")
    homepage: str = setting("", "Where it is described.")
    citation: str = setting("", "The paper to cite.")
    licence: str = setting("", "Licence of the list; the videos belong to their owners.")
    attribution: str = setting("", "Whom to name when using it.")
    importer: str = setting("", "A name from avdata.manifest.importers.")
    dataset: str = setting("", "Value of the dataset column; empty: the name of the file.")
    options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Options of the importer."}
    )
    option_files: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "Options that take the path of one of the files; it is not imported."},
    )
    files: tuple[ListFile, ...] = setting((), "The official list; empty: it cannot be downloaded.")
    rows: int | None = setting(None, "How many rows the manifest has with these options.")
    note: str = setting("", "What a user should know; where to get what cannot be downloaded.")

    def __post_init__(self) -> None:
        if self.importer not in IMPORTERS:
            raise ValueError(f"importer must be one of {', '.join(IMPORTERS)}: {self.importer!r}")
        if unknown := set(self.option_files.values()) - {file.name for file in self.files}:
            raise ValueError(f"option_files name no file of the list: {sorted(unknown)}")


def load_dataset(name: str) -> Dataset:
    """Read the description of a dataset: a name, or the path of a YAML file.

    Raises ManifestError if there is none, SettingsError if it is wrong.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else find("manifests", name)
    if path is None or not path.is_file():
        raise ManifestError(
            f"no dataset {name!r}; known: {', '.join(shipped_names('manifests')) or 'none'}; "
            "a YAML file of your own works too"
        )
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"cannot read {path}: {error}") from None
    dataset = build(Dataset, tree, str(path))
    return dataset if dataset.dataset else build(Dataset, {**tree, "dataset": path.stem}, str(path))


def import_dataset(
    dataset: Dataset, files: Sequence[Path], options: Mapping[str, Any], base: str
) -> Iterator[Clip]:
    """Yield the clips of a dataset's official files, with its licence in every row.

    A file that the description gives to an option (such as a list of classes) may be among the
    files, by its official name, or in `options`. Raises ManifestError where it is in neither.
    """
    common = {
        "dataset": dataset.dataset,
        "licence": dataset.licence,
        "attribution": dataset.attribution,
    }
    lists = list(files)
    chosen = {**dataset.options, **options}
    for option, name in dataset.option_files.items():
        given = [path for path in lists if path.name == name]
        if given:
            chosen.setdefault(option, str(given[0]))
        elif option not in options:
            homes = next(file.urls for file in dataset.files if file.name == name)
            raise ManifestError(
                f"{dataset.title} needs {name} too ({homes[0]}): give it with the other files, or "
                f"another one with --option {option}=FILE"
            )
        lists = [path for path in lists if path not in given]
    return import_clips(dataset.importer, lists, chosen, common, base)


def get_dataset(
    dataset: Dataset, folder: Path, options: Mapping[str, Any], base: str
) -> Iterator[Clip]:
    """Download the official list into `folder` (what is there already is used) and import it."""
    if not dataset.files:
        raise ManifestError(f"the list of {dataset.title} cannot be downloaded. {dataset.note}")
    for file in dataset.files:
        download(file, folder / file.name)
    paths = [folder / file.name for file in dataset.files]
    return import_dataset(dataset, paths, options, base)


def download(file: ListFile, target: Path) -> None:
    """Download one file, from the first of its URLs that has it, unless it is there already.

    Raises ManifestError when no URL gives it or its checksum is another.
    """
    from avdata.store import Store, sha256_file

    if target.is_file() and file.sha256 in (None, sha256_file(target)):
        return
    problems = []
    for url in file.urls:
        try:
            with Store(str(target.parent)).writing(target.name) as temporary:
                _fetch(url, temporary, file.sha256)
            return
        except ManifestError as error:
            problems.append(str(error))
    raise ManifestError(
        f"cannot download {file.name}: {'; '.join(problems)}. Get it another way and use "
        "`avdata manifest import`"
    )


def _fetch(url: str, target: Path, sha256: str | None) -> None:
    import urllib3

    retries = urllib3.Retry(3, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504))
    timeout = urllib3.Timeout(connect=15.0, read=30.0)
    digest, total = hashlib.sha256(), 0
    try:
        with (
            urllib3.PoolManager(retries=retries, timeout=timeout) as pool,
            pool.request("GET", url, preload_content=False) as response,
            target.open("wb") as file,
        ):
            kind = response.headers.get("Content-Type", "")
            if response.status != 200:
                raise ManifestError(f"{url} answered {response.status}")
            if kind.startswith("text/html"):
                raise ManifestError(f"{url} answered with a web page instead of the list")
            for chunk in response.stream(CHUNK_BYTES, decode_content=True):
                digest.update(chunk)
                total += len(chunk)
                if total > MAX_LIST_BYTES:
                    raise ManifestError(f"{url} sends more than {MAX_LIST_BYTES} bytes")
                file.write(chunk)
    except urllib3.exceptions.HTTPError as error:
        raise ManifestError(f"{url} failed: {error}") from None
    if sha256 is not None and digest.hexdigest() != sha256:
        raise ManifestError(f"{url} has sha256 {digest.hexdigest()}, expected {sha256}")
