"""The command line: parse, call the public API, save."""

from ntkit.cli.app import app, main

__all__ = ["app", "main"]
