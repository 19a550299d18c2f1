"""Runs TensorRT in a child process, so that neither a crash of it nor the lack of memory ends the caller.

    parent                                            child (`worker`)
    folder/model, folder/request.json          ->
                                               <-     a pipe with lines: progress, log, outcome or error
                                               <-     folder/engine
    standard input, closed when the parent ends ->    the child ends too, and removes the folder

The folder is private and temporary. The child has a session of its own: Ctrl-C reaches the parent alone,
which then ends the child.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pixelrt.errors
from pixelrt.errors import BuildError, PixelRTError
from pixelrt.trt.protocol import (
    ENGINE,
    MODEL,
    OUTPUT,
    REQUEST,
    Failed,
    Outcome,
    Request,
    Said,
    Step,
    from_line,
    request_to_json,
)

Progress = Callable[[str, int, int], None]
"""Called with a phase, the step that it reached, and its number of steps."""

_LOG = logging.getLogger("pixelrt.trt")
_MOST_LINES = 12
_LINES_BEFORE_CRASH = 4
_START = (
    "import sys; sys.path[:] = sys.argv[3:]; from pathlib import Path; "
    "from pixelrt.trt.worker import main; main(int(sys.argv[1]), Path(sys.argv[2]))"
)
"""The child imports from where its parent does, not from the folder that it happens to stand in."""


def run(request: Request, content: bytes, progress: Progress | None) -> tuple[Outcome, bytes]:
    """Do a request in a child process.

    Args:
        request: What to do.
        content: The ONNX, or the engine to inspect.
        progress: Told of every step; an exception that it raises ends the child and is passed on.

    Returns:
        What came of it, and the engine (empty where none was to be built).

    Raises:
        PixelRTError: What the child explained; BuildError if it ended without a word.
    """
    with _folder() as folder:
        _put(folder, request, content)
        outcome = _converse(folder, request.device_index, progress)
        engine = _take(folder / ENGINE) if outcome.size_bytes else b""
    if outcome.sha256 and hashlib.sha256(engine).hexdigest() != outcome.sha256:
        raise BuildError(
            f"the engine was {outcome.size_bytes} bytes when it was built and reads back as {len(engine)} "
            f"other bytes; is the disk of {tempfile.gettempdir()} full or broken?"
        )
    return outcome, engine


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    try:
        made = tempfile.TemporaryDirectory(prefix="pixelrt-build-", ignore_cleanup_errors=True)
    except OSError as problem:
        raise BuildError(
            f"no temporary folder can be made in {tempfile.gettempdir()} ({problem.strerror}); "
            "TMPDIR names another place"
        ) from problem
    with made as name:
        yield Path(name)


def _put(folder: Path, request: Request, content: bytes) -> None:
    try:
        (folder / MODEL).write_bytes(content)
        (folder / REQUEST).write_text(request_to_json(request))
    except OSError as problem:
        raise BuildError(
            f"the model cannot be written to {folder} ({problem.strerror}); TMPDIR names another place"
        ) from problem


def _take(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as problem:
        raise BuildError(
            f"the engine was built and cannot be read back from {file} ({problem.strerror}); "
            "TMPDIR names another place"
        ) from problem


def _converse(folder: Path, device_index: int, progress: Progress | None) -> Outcome:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as lines:
        with _child(folder, writing, device_index) as child:
            result, phase = _listen(lines, progress)
            child.wait()
        if isinstance(result, Failed):
            raise _error(result)
        if result is None:
            raise BuildError(_sudden_end(child.returncode, phase, folder))
        return result


@contextlib.contextmanager
def _child(folder: Path, writing: int, device_index: int) -> Iterator[subprocess.Popen[bytes]]:
    """A running child, which has ended when this is left, whatever the reason."""
    paths = [os.path.abspath(path) for path in sys.path]
    try:
        with (folder / OUTPUT).open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-c", _START, str(writing), str(folder), *paths],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                pass_fds=(writing,),
                env=_environment(device_index),
                start_new_session=True,
            )
    except OSError as problem:
        raise BuildError(
            f"the process for TensorRT cannot be started ({sys.executable} in {folder}: {problem.strerror}); "
            "the machine may be out of memory or processes, or the disk full; TMPDIR names another place"
        ) from problem
    finally:
        os.close(writing)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdin:
            child.stdin.close()


def _environment(device_index: int) -> dict[str, str]:
    """This process's environment with one GPU alone to be seen: the child's TensorRT takes the first."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if not visible and not device_index:
        return dict(os.environ)
    chosen = visible[device_index] if device_index < len(visible) else str(device_index)
    return {**os.environ, "CUDA_VISIBLE_DEVICES": chosen}


def _listen(lines: Iterator[str], progress: Progress | None) -> tuple[Outcome | Failed | None, str]:
    """Pass on what the child tells, until it has answered or is gone."""
    phase = "starting"
    for line in lines:
        message = from_line(line)
        if isinstance(message, (Outcome, Failed)):
            return message, phase
        if isinstance(message, Said):
            _LOG.log(message.level, "%s", message.text)
        elif isinstance(message, Step):
            phase = message.phase
            if progress is not None:
                progress(message.phase, message.step, message.num_steps)
    return None, phase


def _error(failed: Failed) -> PixelRTError:
    kind = getattr(pixelrt.errors, failed.kind, BuildError)
    error: PixelRTError = kind(failed.text)
    return error


def _sudden_end(code: int, phase: str, folder: Path) -> str:
    """The message for a child that ended without an answer."""
    last = _last_words(folder)
    if code == -signal.SIGKILL:
        return (
            f"TensorRT was killed (SIGKILL) during {phase!r}, most likely because the machine ran out of "
            "memory (see: dmesg); close other programs, lower --memPoolSize=workspace:N or the largest "
            f"shapes, --maxShapes{last}"
        )
    if code < 0:
        name = signal.Signals(-code).name
        return (
            f"TensorRT crashed ({name}) during {phase!r}; nothing was written. "
            f"It is a bug in TensorRT or its driver: try another version, and --verbose{last}"
        )
    return f"TensorRT's process ended with status {code} during {phase!r} and said nothing{last}"


def _last_words(folder: Path) -> str:
    """What the child printed at its end, or around the place where Python noticed a crash."""
    try:
        lines = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as problem:
        return f"; what it printed cannot be read ({problem.strerror})"
    crash = next((index for index, line in enumerate(lines) if line.startswith("Fatal Python error")), None)
    start = max(0, len(lines) - _MOST_LINES if crash is None else crash - _LINES_BEFORE_CRASH)
    shown = "".join(f"\n  {line}" for line in lines[start : start + _MOST_LINES] if line)
    return f"; it printed:{shown}" if shown else ""
