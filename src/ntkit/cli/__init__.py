"""The command line: parse, call the public API, save."""

from ntkit.cli.commands import app, main

__all__ = ["app", "main"]
