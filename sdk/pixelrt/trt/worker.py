"""The child process: does one request with TensorRT and ends. Started by `process`, never imported by it."""

from __future__ import annotations

import dataclasses
import faulthandler
import hashlib
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from pixelrt.errors import BuildError, PixelRTError
from pixelrt.trt.builder import build_plan, configure
from pixelrt.trt.engine import load_engine
from pixelrt.trt.gpu import local_gpu
from pixelrt.trt.inspection import describe
from pixelrt.trt.library import Library, load_library
from pixelrt.trt.network import Parsed, inputs_and_outputs, parse, refusal
from pixelrt.trt.protocol import (
    ENGINE,
    MODEL,
    REQUEST,
    EngineFacts,
    Failed,
    Message,
    Outcome,
    Request,
    Said,
    Step,
    request_from_json,
    to_line,
)
from pixelrt.trt.settings import layers_without_accelerator
from pixelrt.trt.targets import LOCAL
from pixelrt.trt.timing_cache import TimingCache


def main(descriptor: int, folder: Path) -> None:
    """Do the request in `folder`, tell of it through the pipe `descriptor`, and end the process.

    The process is ended without clean-up of the interpreter: some versions of TensorRT crash in theirs.
    """
    faulthandler.enable(all_threads=False)
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    speaker = _Speaker(descriptor, folder)
    try:
        request = request_from_json((folder / REQUEST).read_text())
        logging.getLogger("pixelrt.trt").addHandler(speaker)
        logging.getLogger("pixelrt.trt").setLevel(logging.DEBUG if request.verbose else logging.INFO)
        speaker.tell(_answer(request, folder, speaker))
    except PixelRTError as problem:
        speaker.tell(Failed(type(problem).__name__, str(problem)))
    except OSError as problem:
        text = f"the engine cannot be written to {folder} ({problem.strerror}); TMPDIR names another place"
        speaker.tell(Failed("BuildError", text))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _answer(request: Request, folder: Path, speaker: _Speaker) -> Outcome:
    speaker.report("Loading TensorRT", 0, 1)
    library = load_library(request.flavour)
    speaker.report("Loading TensorRT", 1, 1)
    content = (folder / MODEL).read_bytes()
    if request.action == "inspect":
        facts = _facts(library, content, request, trust_host_code=request.options.version_compatible)
        return Outcome(version=library.version, facts=facts)
    speaker.report("Parsing the ONNX", 0, 1)
    parsed, problems = parse(library, content)
    speaker.report("Parsing the ONNX", 1, 1)
    if problems and request.action == "build":
        raise refusal(library, problems)
    inputs, outputs = inputs_and_outputs(parsed.network)
    outcome = Outcome(
        version=library.version,
        num_layers=parsed.network.num_layers,
        inputs=inputs,
        outputs=outputs,
        problems=problems,
    )
    if request.action == "parse":
        if not problems:
            configure(library, parsed, request)  # refuses options and shapes that a build would refuse
        return outcome
    return _built(library, parsed, request, outcome, folder, speaker)


def _built(
    library: Library, parsed: Parsed, request: Request, outcome: Outcome, folder: Path, speaker: _Speaker
) -> Outcome:
    local = request.targets == (LOCAL,)
    gpu = local_gpu() if local else None
    config = configure(library, parsed, request)
    cache = TimingCache.attach(library, config, request.timing_cache, gpu)
    start_s = time.monotonic()
    plan = build_plan(library, parsed, config, request, speaker.report)
    seconds = time.monotonic() - start_s
    content = memoryview(plan)
    with (folder / ENGINE).open("wb") as stream:
        written = stream.write(content)
    if written != plan.nbytes:
        raise BuildError(f"the engine has {plan.nbytes} bytes, {written} of them could be written")
    if cache is not None:
        cache.store()
    facts, silence = _examined(library, content, request)
    accelerated = request.options.dla_core is not None
    return dataclasses.replace(
        outcome,
        targets=request.targets if gpu is None else (gpu.target,),
        gpu="" if gpu is None else gpu.name,
        multiprocessors=0 if gpu is None else gpu.multiprocessors,
        facts=facts,
        silence=silence,
        unfit=tuple(layers_without_accelerator(parsed.network, config)) if accelerated else (),
        timing_cache=cache is not None,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=written,
        seconds=seconds,
    )


def _examined(library: Library, content: memoryview, request: Request) -> tuple[EngineFacts | None, str]:
    """What a new engine says of itself, or why it cannot be asked here. A build does not fail for that."""
    try:
        gpu = local_gpu()
        if request.targets != (LOCAL,) and gpu.target not in request.targets:
            return None, f"it is not for the GPU of this machine ({gpu.target})"
        return _facts(library, bytes(content), request, trust_host_code=True), ""
    except PixelRTError as problem:
        return None, str(problem)


def _facts(library: Library, content: bytes, request: Request, *, trust_host_code: bool) -> EngineFacts:
    core = request.options.dla_core
    loaded = load_engine(library, content, "the engine", trust_host_code=trust_host_code, dla_core=core)
    return describe(library, loaded.engine, accelerated=core is not None)


class _Speaker(logging.Handler):
    """Tells the parent: one whole line at a time, from whichever thread."""

    def __init__(self, descriptor: int, folder: Path) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._folder = folder
        self._turn = threading.Lock()

    def tell(self, message: Message) -> None:
        line = to_line(message).encode()
        try:
            with self._turn:
                while line:
                    line = line[os.write(self._descriptor, line) :]
        except BrokenPipeError:
            _vanish(self._folder)

    def report(self, phase: str, step: int, num_steps: int) -> None:
        self.tell(Step(phase, step, num_steps))

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(Said(record.levelno, record.getMessage()))


def _end_with_parent(folder: Path) -> None:
    """Wait for the end of standard input, which the parent holds open as long as it lives and wants us."""
    while os.read(0, 1):
        pass
    _vanish(folder)


def _vanish(folder: Path) -> NoReturn:
    """End without a word: the parent is gone, and cannot remove the folder any more."""
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
