"""The argument parser of every command: neat help, and errors that say what was probably meant."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from pixelrt.errors import InputError
from pixelrt.strict import suggestion

USAGE = 2
"""Exit code after wrong arguments."""

COMMAND = "COMMAND"
"""How help and errors show the place of a command's name."""


_LEAST_COLUMN = 14


class UsageError(InputError):
    """Arguments of which each is fine, and that do not go together or do not fit the bundle."""

    exit_code = USAGE


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks, and leaves room for the longest command, which argparse forgets to indent."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"max_help_position": 30, **options})
        self._action_max_length = _LEAST_COLUMN


class Parser(argparse.ArgumentParser):
    """argparse's parser with this house's habits; subparsers are of the same class.

    Help keeps its line breaks (for examples), options are not abbreviated (nothing is guessed),
    and an error is one line with a suggestion and the place to look.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _Formatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self.add_argument(
            "--traceback",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show where in the code an error came from (as does PIXELRT_TRACEBACK=1)",
        )

    def error(self, message: str) -> NoReturn:
        """Explain wrong arguments on standard error and exit with code 2."""
        clearer = self._clearer(message.removeprefix("argument "))
        sys.stderr.write(f"error: {clearer}\ntry: {self.prog} --help\n")
        sys.exit(USAGE)

    def refuse_unknown(self, unknown: list[str]) -> NoReturn:
        """Explain arguments that nothing of this parser takes, and exit with code 2."""
        known = [option for action in self._actions for option in action.option_strings]
        word = next((word for word in unknown if word.startswith("-")), unknown[0])
        if word.startswith("-"):
            self.error(f"unknown option {word.split('=')[0]}{suggestion(word.split('=')[0], known)}")
        many = [action.metavar for action in self._actions if action.nargs == "+" and action.metavar]
        together = f"; every {many[0]} stands next to the other ones" if many else ""
        self.error(f"unexpected argument {word!r}{together}")

    @staticmethod
    def _clearer(message: str) -> str:
        """The message of argparse with a suggestion, where it lists choices."""
        match = re.fullmatch(r"(.*?): invalid choice: '(.*)' \(choose from (.*)\)", message)
        if match is None:
            return message
        name, word, listed = match.groups()
        choices = [choice.strip(" '") for choice in listed.split(",")]
        unfit = f"unknown command {word!r}" if name == COMMAND else f"{name} cannot be {word!r}"
        return f"{unfit}{suggestion(word, choices)}; choose from {', '.join(choices)}"
