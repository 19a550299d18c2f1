"""The terminal that progress, tables and warnings go to."""

from __future__ import annotations

from rich.console import Console

console = Console(stderr=True)
"""Standard error, so that standard output stays machine-readable."""
