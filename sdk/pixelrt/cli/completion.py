"""`pixelrt completion`: makes the shell complete commands, options and files."""

from __future__ import annotations

import argparse
from typing import Any

from pixelrt.cli.entry import build_parser
from pixelrt.dependency import require
from pixelrt.terminal import say

_EPILOG = """\
examples:
  bash    pixelrt completion bash > ~/.local/share/bash-completion/completions/pixelrt
  zsh     pixelrt completion zsh > ~/.zfunc/_pixelrt       (a folder of your fpath, before compinit)
  fish    pixelrt completion fish > ~/.config/fish/completions/pixelrt.fish
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "completion",
        help="print a script that completes commands, options and files",
        description="Print a script that makes your shell complete pixelrt's commands, options and files.",
        epilog=_EPILOG,
    )
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def run(arguments: argparse.Namespace) -> int:
    """Print the script.

    Raises:
        MissingDependency: If shtab is not installed.
    """
    shtab = require("shtab", "cli", "writing a completion script")
    parser, commands = build_parser()
    for each in (parser, *commands.values()):
        for action in each._actions:  # shtab reads the attribute `complete`; argparse has no public list
            if action.nargs != 0 and action.choices is None and _takes_path(action):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    say(shtab.complete(parser, shell=arguments.shell))
    return 0


def _takes_path(action: argparse.Action) -> bool:
    shown = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return shown in _PATHS


_PATHS = {"BUNDLE", "DIR", "FILE", "OUT", "PATH", "RECIPE", "SOURCE"}
"""How the help of a command shows an argument that is a file or folder."""
