"""`avdata weights`: list the pretrained weights, get them, delete them."""

from __future__ import annotations

from typing import Annotated

import typer

from avdata import weights
from avdata.cli.options import new_app

app = new_app("Pretrained weights: what there is, what is here, and how to get it.")

Names = Annotated[list[str], typer.Argument(help="Names as `avdata weights list` shows them.")]


@app.command("list")
def list_weights() -> None:
    """Show every entry of the weights table and whether the cache has it."""
    for name, entry in weights.entries().items():
        state = "here" if weights.is_here(name) else "missing"
        typer.echo(f"{name:14} {state:8} {entry.licence:12} {entry.purpose}")
        files = entry.file if len(entry.files) == 1 else f"{len(entry.files)} files"
        typer.echo(f"{'':14} {weights.cached_folder(name)}: {files}")


@app.command("get")
def get_weights(names: Names) -> None:
    """Download weights into the cache, if they are not there, and print where they are."""
    for name in names:
        here, entry = weights.get(name), weights.entry(name)
        typer.echo(here / entry.file if len(entry.files) == 1 else here)


@app.command("delete")
def delete_weights(names: Names) -> None:
    """Remove weights from the cache."""
    for name in names:
        weights.delete(name)
