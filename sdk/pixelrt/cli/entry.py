"""The way into the command line, and the one place where its errors become messages and exit codes."""

from __future__ import annotations

import importlib
import os
import select
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from pixelrt import __version__
from pixelrt.cli.parser import COMMAND, USAGE, Parser, with_files
from pixelrt.cli.stopping import Interrupted
from pixelrt.errors import PixelRTError
from pixelrt.terminal import complain, writing_output

COMMANDS = ("export", "build", "run", "serve", "generate", "inspect", "doctor", "bench", "completion")
INTERRUPTED = 130
READER_GONE = 141

_DESCRIPTION = """\
Takes your own trained PyTorch network to a robot or a vehicle: converts it, proves that nothing
was lost, builds TensorRT engines and runs it on video.
"""

_EPILOG = """\
examples:
  pixelrt export engines/road-unet/recipe.toml          a trained network becomes a verified bundle
  pixelrt build engines/road-unet/bundle --target sm86  an engine for another GPU, built here
  pixelrt run engines/road-unet/bundle drive.mp4 --out overlay.mp4
  pixelrt doctor                                        what this machine can run, and why

@FILE stands for the arguments in FILE, one a line, which nobody sees in the list of processes.

exit codes:
  0 done    1 error    2 wrong arguments    3 the export's gate failed
  129, 130, 143 the terminal went, Ctrl-C, SIGTERM    141 whatever read the output went away
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments after the program's name; those of this process if left out.

    Returns:
        The exit code (see `pixelrt --help`).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        words = with_files(words)
        code = _dispatch(words)
        if sys.stdout is not None:  # closed from the start: nothing was said
            with writing_output():
                sys.stdout.flush()
    except PixelRTError as problem:
        code = _explain(problem, words)
        _drop_lost_output()
        return code
    except KeyboardInterrupt as interruption:
        complain("interrupted")
        return interruption.exit_code if isinstance(interruption, Interrupted) else INTERRUPTED
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        _drop_lost_output()
        return READER_GONE
    return code


def build_parser(only: str | None = None) -> tuple[Parser, dict[str, Parser]]:
    """The parser of the command line.

    Args:
        only: The command whose file is imported, the others get an empty parser; None for all of them.

    Returns:
        The parser and, by name, those of its commands.
    """
    parser = Parser(prog="pixelrt", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"pixelrt {__version__}")
    commands = parser.add_subparsers(dest="command", metavar=COMMAND, title="commands")
    for name in COMMANDS:
        if only in (None, name):
            importlib.import_module(f"pixelrt.cli.{name}").add_parser(commands)
        else:
            commands.add_parser(name)
    return parser, commands.choices


def _dispatch(words: list[str]) -> int:
    asked = next((word for word in words if not word.startswith("-")), None)
    parser, commands = build_parser(only=asked)
    try:
        arguments, unknown = parser.parse_known_args(words)
        if arguments.command is None:
            return _no_command(parser, unknown)
        if unknown:
            commands[arguments.command].refuse_unknown(unknown)
    except SystemExit as stop:  # argparse has said what there is to say
        return stop.code if isinstance(stop.code, int) else 0
    command = importlib.import_module(f"pixelrt.cli.{arguments.command}")
    return int(command.run(arguments))


def _no_command(parser: Parser, unknown: list[str]) -> int:
    if unknown:
        parser.refuse_unknown(unknown)
    parser.print_help(sys.stderr)
    return USAGE


def _explain(problem: PixelRTError, words: Sequence[str]) -> int:
    if "--traceback" in words or os.environ.get("PIXELRT_TRACEBACK", "0") not in ("", "0"):
        complain(_without_secrets("".join(traceback.format_exception(problem)).rstrip(), words))
    complain(f"error: {_without_secrets(str(problem), words)}")
    return problem.exit_code


def _without_secrets(message: str, words: Sequence[str]) -> str:
    """A message, without the password of a camera's address that stood in the wrong place.

    It repeats the word as it is, as Python writes it, as a path, or as the value of an option.
    """
    for word in words:
        for given in (word, repr(word)[1:-1], str(Path(word)), word.partition("=")[2]):
            if "@" in given or "=" in given:
                from pixelrt.video.sources.hiding import without_secrets

                message = message.replace(given, without_secrets(given))
    return message


def _drop_lost_output() -> None:
    """Keep the interpreter, which flushes standard output when it ends, from complaining once more."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reader_is_gone() -> bool:
    """Whether it is our standard output that nobody reads any more, and not some other pipe."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in watch.poll(0))
