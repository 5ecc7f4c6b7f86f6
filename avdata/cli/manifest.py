"""`avdata manifest`: get, import, check, convert and join lists of video segments."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from avdata.cli.options import Columns, column_mapping, new_app
from avdata.clip import Clip, Status
from avdata.errors import ManifestError, SettingsError
from avdata.parsing import parse_yaml
from avdata.shipped import find, shipped_names

app = new_app("Manifests: get a dataset's official list, import your own, check, convert, join.")

Out = Annotated[
    str | None,
    typer.Option("--out", "-o", help="Manifest to write: .csv, .tsv, .jsonl (.gz) or .parquet."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", help="Option of the importer, name=value (YAML); repeatable."),
]
Shown = Annotated[int, typer.Option("--show", help="How many bad rows are printed.")]


@app.command("list")
def list_datasets() -> None:
    """List the datasets that `get` and `import` know, and the importers."""
    from avdata.manifest.datasets import load_dataset
    from avdata.manifest.importers import IMPORTERS

    for name in shipped_names("manifests"):
        dataset = load_dataset(name)
        rows = "?" if dataset.rows is None else str(dataset.rows)
        home = "download" if dataset.files else "import  "
        typer.echo(f"{name:24} {rows:>8} rows  {home}  {dataset.title}. {dataset.licence}")
    typer.echo("")
    for name, does in IMPORTERS.items():
        typer.echo(f"importer {name:15} {does}")


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="A dataset, or a YAML file that describes one.")],
    out: Out = None,
    option: Options = None,
    keep: Annotated[
        Path | None, typer.Option(help="Folder that keeps the official files for the next time.")
    ] = None,
    show: Shown = 10,
) -> None:
    """Download a dataset's official list from its home and turn it into a manifest."""
    import tempfile

    from avdata.manifest.datasets import get_dataset, load_dataset

    dataset = load_dataset(name)
    target = out or f"{dataset.dataset}.csv"
    options = _options(option)
    with tempfile.TemporaryDirectory(prefix="avdata-") as scratch:
        clips = get_dataset(dataset, keep or Path(scratch), options, _folder(target))
        rows, bad = _write(target, clips, show)
    if dataset.rows not in (None, rows + bad) and not options:
        raise ManifestError(
            f"{target} is written, but the list has {rows + bad} rows where {dataset.rows} were "
            f"expected: it has changed at its home, or did not come whole"
        )


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="A dataset or an importer (`avdata manifest list`).")],
    files: Annotated[list[Path], typer.Argument(help="The official files, or a folder.")],
    out: Out = None,
    option: Options = None,
    show: Shown = 10,
) -> None:
    """Turn a dataset's own files into a manifest."""
    from avdata.manifest.datasets import Dataset, import_dataset, load_dataset
    from avdata.manifest.importers import IMPORTERS

    if name in IMPORTERS and find("manifests", name) is None:
        dataset = Dataset(importer=name, dataset="" if name == "folder" else name)
    else:
        dataset = load_dataset(name)
    target = out or f"{dataset.dataset or name}.csv"
    _write(target, import_dataset(dataset, files, _options(option), _folder(target)), show)


@app.command("check")
def check(
    manifest: Annotated[str, typer.Argument(help="The manifest to check.")],
    good: Annotated[str | None, typer.Option(help="Write the good rows to this manifest.")] = None,
    columns: Columns = None,
    show: Shown = 100,
) -> None:
    """List bad rows with line and reason, and columns that are not understood.

    Exit code 1 if there is a bad row.
    """
    from avdata.manifest import iter_manifest, write_manifest

    counts = Counter[str]()
    clips = _good(iter_manifest(manifest, columns=column_mapping(columns)), counts, show)
    if good is None:
        for _ in clips:
            pass
    else:
        write_manifest(good, clips)
    bad = counts.total() - counts["good"]
    typer.echo(f"{manifest}: {counts['good']} good rows, {bad} bad rows")
    for reason, count in counts.most_common():
        if reason != "good":
            typer.echo(f"  {reason:15} {count}")
    if bad:
        raise typer.Exit(1)


@app.command("convert")
def convert(
    source: Annotated[str, typer.Argument(help="A manifest in any format.")],
    target: Annotated[str, typer.Argument(help="The manifest to write.")],
    columns: Columns = None,
    show: Shown = 10,
) -> None:
    """Write a manifest in another format; exit code 1 if rows had to be left out as bad."""
    from avdata.manifest import iter_manifest

    _, bad = _write(target, iter_manifest(source, columns=column_mapping(columns)), show)
    if bad:
        raise typer.Exit(1)


@app.command("join")
def join(
    sources: Annotated[list[str], typer.Argument(help="Manifests in any format.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The manifest to write.")],
    show: Shown = 10,
) -> None:
    """Write several manifests as one; exit code 1 if rows had to be left out as bad."""
    from avdata.manifest import join_manifests

    _, bad = _write(out, join_manifests(sources), show)
    if bad:
        raise typer.Exit(1)


def _write(target: str, clips: Iterable[Clip], show: int) -> tuple[int, int]:
    from avdata.manifest import write_manifest

    counts = Counter[str]()
    rows = write_manifest(target, _good(clips, counts, show))
    bad = counts.total() - counts["good"]
    if not rows:
        why = f"none of the {bad} rows could be used" if bad else "there is nothing to take"
        raise ManifestError(f"{why}; {target} holds no row")
    why = ", ".join(f"{reason} {n}" for reason, n in counts.most_common() if reason != "good")
    typer.echo(f"{target}: {rows} rows" + (f", {bad} bad rows left out ({why})" if bad else ""))
    return rows, bad


def _good(clips: Iterable[Clip], counts: Counter[str], show: int) -> Iterator[Clip]:
    """Yield the good clips; count all by reason and print the first bad ones to stderr."""
    bad = 0
    for clip in clips:
        if clip.status is not Status.FAILED:
            counts["good"] += 1
            yield clip
            continue
        counts[clip.reason] += 1
        bad += 1
        if bad <= show:
            typer.echo(f"{clip.reason}: {clip.detail}", err=True)
        elif bad == show + 1:
            typer.echo("… more bad rows are counted, not shown (--show N)", err=True)


def _folder(target: str) -> str:
    from avdata.store import is_remote

    return (
        target.rpartition("/")[0] if is_remote(target) else os.path.dirname(os.path.abspath(target))
    )


def _options(pairs: list[str] | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--option takes name=value, got {pair!r}")
        try:
            options[name] = parse_yaml(text)
        except ValueError as error:
            raise SettingsError(f"--option {name}: {text!r} is not valid YAML: {error}") from None
    return options
