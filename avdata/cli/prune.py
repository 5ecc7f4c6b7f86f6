"""`avdata prune`: free the space of work that no run needs any more."""

from __future__ import annotations

from typing import Annotated

import typer


def prune(
    folder: Annotated[str, typer.Argument(help="Run folder.")],
    delete: Annotated[
        bool, typer.Option("--delete/--dry-run", help="Remove it, or only say how much it is.")
    ] = False,
    media: Annotated[
        bool, typer.Option("--media", help="Fetched files that no table names any more, too.")
    ] = False,
) -> None:
    """Remove the work of earlier settings and lists; --dry-run, the default, only says how much.

    What the last run's plan and settings lead to stays, and what its tables name; shards/ and
    stages/ are never touched. Another run that reads this one's tables needs its media.
    """
    from avdata.cli.terminal import new_console, plain_table
    from avdata.report import charts
    from avdata.run.prune import prune as prune_run

    found = prune_run(folder, media=media, delete=delete)
    table = plain_table("superseded", "files", "size", numbers=(1, 2))
    for name, sizes in found.items():
        table.add_row(name, charts.whole(len(sizes)), charts.bytes_text(sum(sizes.values())))
    console = new_console()
    console.print(table)
    if not any(found.values()):
        console.print("nothing is superseded")
    elif delete:
        console.print("removed")
    else:
        console.print("nothing was removed: --delete does it")
