"""The command `pixelrt`: one file per command, imported when that command is asked for."""

from __future__ import annotations

from pixelrt.cli.entry import main

__all__ = ["main"]
