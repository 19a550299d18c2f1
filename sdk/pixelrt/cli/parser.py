"""The argument parser of every command: neat help, and errors that say what was probably meant."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pixelrt.errors import InputError
from pixelrt.strict import suggestion

USAGE = 2
"""Exit code after wrong arguments."""

COMMAND = "COMMAND"
"""How help and errors show the place of a command's name."""


_LEAST_COLUMN = 14
_LARGEST_FILE = 1 << 20


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
        """Explain wrong arguments.

        Raises:
            UsageError: Always.
        """
        clearer = self._clearer(message.removeprefix("argument "))
        raise UsageError(f"{clearer}\ntry: {self.prog} --help")

    def refuse_unknown(self, unknown: list[str]) -> NoReturn:
        """Explain arguments that nothing of this parser takes.

        Raises:
            UsageError: Always.
        """
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


def with_files(words: Sequence[str]) -> list[str]:
    """The words of a command line, with what stands in FILE in the place of each `@FILE`.

    A file holds a word a line, as it is: no quotes, no escapes. Blank lines, and those that begin with `#`,
    are skipped. A command line is seen by every user of the machine; what stands in a file is not.

    Raises:
        UsageError: If a file cannot be read, or a line cannot be a word.
    """
    return [word for given in words for word in (_in_file(given[1:]) if given[:1] == "@" else [given])]


def _in_file(path: str) -> list[str]:
    lines = (line.strip() for line in _text(path).split("\n"))
    numbered = [(number, word) for number, word in enumerate(lines, 1) if word and word[0] != "#"]
    for number, word in numbered:
        if word[0] == "@":
            raise UsageError(
                f"@{path}, line {number} begins with @, and a file of arguments cannot name another one; "
                "where it is a value, write it behind its option, as in --option=@value"
            )
        if option := re.match(r"(-[^\s=]+)\s", word):
            raise UsageError(
                f"@{path}, line {number} holds more than one argument: a line is one; "
                f"write {option[1]}=VALUE, or the value on the next line"
            )
    return [word for _, word in numbered]


def _text(path: str) -> str:
    expected = "expected a file with one argument a line"
    no_text = f"@{path} is no text in UTF-8 of 1 MiB at most; {expected}"
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        text = content.decode("utf-8-sig")
    except OSError as problem:
        raise UsageError(f"@{path} cannot be read ({problem.strerror}); {expected}") from problem
    except UnicodeDecodeError as problem:
        raise UsageError(no_text) from problem
    if "\0" in text or len(content) > _LARGEST_FILE:
        raise UsageError(no_text)
    return text
