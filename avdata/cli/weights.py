"""`avdata weights`: list the pretrained weights and get them."""

from __future__ import annotations

from typing import Annotated

import typer

from avdata import weights
from avdata.cli.options import new_app

app = new_app("Pretrained weights: what there is, what is here, and how to get it.")


@app.command("list")
def list_weights() -> None:
    """Show every entry of the weights table and whether the cache has it."""
    for entry in weights.WEIGHTS.values():
        path = weights.cached_path(entry)
        state = "here" if path.is_file() else "missing"
        typer.echo(f"{entry.name:12} {state:8} {entry.licence:12} {entry.purpose}")
        typer.echo(f"{'':12} {path}")


@app.command("get")
def get_weights(
    names: Annotated[list[str], typer.Argument(help="Names as `avdata weights list` shows them.")],
) -> None:
    """Download weights into the cache, if they are not there, and print where they are."""
    for name in names:
        typer.echo(weights.get(name))
