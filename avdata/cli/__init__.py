"""The command line: `avdata COMMAND ...`."""

from avdata.cli.app import app, main

__all__ = ["app", "main"]
