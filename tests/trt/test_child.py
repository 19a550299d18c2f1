"""The process in which TensorRT runs: it is crashed, killed, interrupted and orphaned here, for real."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from pixelrt.bundle import Bundle
from pixelrt.errors import BuildError
from pixelrt.trt import BuildOptions, build_bundle, build_engine, process, profile_of

MakeBundle = Callable[..., Bundle]
WaitFor = Callable[[Callable[[], bool]], None]
Workers = Callable[..., list[int]]
SM86 = BuildOptions(flavour="tensorrt_rtx", targets=("sm86",))
ALL = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return make_bundle(emit=("mask", "confidence"), precision="fp16")


@pytest.fixture
def talkative(
    bundle: Bundle, make_model: Callable[..., bytes], replace_model: Callable[[Bundle, bytes], Bundle]
) -> Bundle:
    """A model of which TensorRT tells more than a pipe holds: its child waits as long as we do not listen."""
    nodes = [
        helper.make_node(("Relu", "Softmax")[i % 2], [f"t{i}" if i else "x"], [f"t{i + 1}"], name=f"n{i}")
        for i in range(150)
    ]
    last = helper.make_node("MatMul", ["t150", "w"], ["y"], name="last")
    return replace_model(
        bundle, make_model(*nodes, last, constants={"w": np.ones((48, 5), dtype=np.float32)})
    )


def test_a_process_that_cannot_be_started(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(BuildError, match=r"cannot be started \(/nowhere/python .*No such file"):
        build_bundle(bundle, SM86)


def test_a_folder_that_somebody_removed(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleaner of old temporary files, say."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def progress(phase: str, step: int, num_steps: int) -> None:
        for folder in tmp_path.glob("pixelrt-build-*"):
            shutil.rmtree(folder, ignore_errors=True)

    with pytest.raises(BuildError, match=r"the engine cannot be written to .*TMPDIR names another place"):
        build_bundle(bundle, SM86, progress=progress)


def test_files_that_are_gone_are_explained(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot be read back from .*No such file"):
        process._take(tmp_path / "engine")
    said = process._sudden_end(3, "Parsing", tmp_path)
    assert said.endswith("what it printed cannot be read (No such file or directory)")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("phase", ["Loading TensorRT", "Building engine"])
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGSEGV, r"TensorRT crashed \(SIGSEGV\) during '"),
        (signal.SIGABRT, r"TensorRT crashed \(SIGABRT\)"),
        (signal.SIGKILL, "was killed .* ran out of memory .*--memPoolSize"),
    ],
)
def test_the_end_of_the_child_is_not_that_of_the_caller(
    talkative: Bundle, temporary: Path, workers: Workers, phase: str, number: signal.Signals, message: str
) -> None:
    before = contents(talkative.path)

    def progress(found: str, step: int, num_steps: int) -> None:
        if found == f"sm86: {phase}" and step == 0:
            (child,) = workers(folder=temporary)
            os.kill(child, number)

    with pytest.raises(BuildError, match=message) as caught:
        build_bundle(talkative, dataclasses.replace(SM86, verbose=True), progress=progress)
    if number == signal.SIGSEGV:
        assert "Fatal Python error: Segmentation fault" in str(caught.value)
    assert contents(talkative.path) == before
    assert list(temporary.iterdir()) == []
    assert workers(folder=temporary) == []


class EnoughError(Exception):
    """What a caller may raise to abandon a build."""


@pytest.mark.parametrize("kind", [EnoughError, KeyboardInterrupt])
def test_a_build_can_be_abandoned(
    bundle: Bundle, temporary: Path, workers: Workers, kind: type[BaseException]
) -> None:
    before = contents(bundle.path)

    def progress(phase: str, step: int, num_steps: int) -> None:
        if phase == "sm86: Building engine":
            raise kind

    with pytest.raises(kind):
        build_bundle(bundle, SM86, progress=progress)
    assert contents(bundle.path) == before
    assert list(temporary.iterdir()) == []
    assert workers(folder=temporary) == []


def start(bundle: Bundle, temporary: Path) -> subprocess.Popen[str]:
    """A user's `pixelrt build` for all targets, in a process group of its own as a shell makes it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pixelrt.cli", "build", str(bundle.path)],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_ctrl_c(bundle: Bundle, temporary: Path, workers: Workers, eventually: WaitFor) -> None:
    with start(bundle, temporary) as running:
        eventually(lambda: bool(workers(parent=running.pid)))
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.strip() == "interrupted"
    eventually(lambda: workers(folder=temporary) == [])  # one that was just being started ends by itself
    assert list(temporary.iterdir()) == []
    whole = Bundle.open(bundle.path)
    assert {artifact.file for artifact in whole.manifest.artifacts} | {"manifest.json"} == set(
        contents(bundle.path)
    )
    assert len(whole.manifest.artifacts) <= len(ALL)
    for artifact in whole.manifest.artifacts:
        whole.read(artifact)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_does_not_outlive_its_parent(
    bundle: Bundle, temporary: Path, workers: Workers, eventually: WaitFor, number: signal.Signals
) -> None:
    with start(bundle, temporary) as running:
        eventually(lambda: bool(workers(parent=running.pid)))
        running.send_signal(number)
        running.communicate(timeout=60)
    assert running.returncode == -number
    eventually(lambda: workers(folder=temporary) == [])
    eventually(lambda: list(temporary.iterdir()) == [])


_LIMITED = """
import json, resource, sys
from pixelrt.bundle import Bundle
from pixelrt.errors import BuildError
from pixelrt.trt import BuildOptions, build_engine, profile_of
bundle = Bundle.open(sys.argv[1])
content, limit = bundle.read(bundle.model), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    options = BuildOptions(flavour="tensorrt_rtx", targets=("sm86",))
    build_engine(content, profile_of(bundle.manifest), options)
except BuildError as problem:
    print(json.dumps(str(problem)))
"""


@pytest.mark.parametrize(("share", "what"), [(0.5, "the model"), (2.0, "the engine")])
def test_files_that_cannot_be_written(bundle: Bundle, temporary: Path, share: float, what: str) -> None:
    limit = str(round(bundle.model.size_bytes * share))
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(bundle.path), limit],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said.startswith(f"{what} cannot be written to {temporary}")
    assert "File too large" in said
    assert said.endswith("TMPDIR names another place")
    assert list(temporary.iterdir()) == []


def test_no_place_for_temporary_files(
    bundle: Bundle, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "gone"))
    with pytest.raises(BuildError, match=r"gone \(No such file or directory\); TMPDIR"):
        build_engine(bundle.read(bundle.model), profile_of(bundle.manifest), SM86)


def test_files_in_the_current_folder_are_not_imported(bundle: Bundle, tmp_path: Path) -> None:
    for name in ("json", "numpy", "tensorrt_rtx", "pixelrt"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong file was imported')")
    code = (
        "import sys; sys.path.remove(''); from pixelrt.cli import main; "
        f"sys.exit(main(['build', {str(bundle.path)!r}, '--target', 'sm86']))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


class TestVisibleGpu:
    """The child sees one GPU alone, the one that the caller means."""

    @pytest.mark.parametrize(
        ("visible", "index", "expected"),
        [
            (None, 0, None),
            (None, 1, "1"),
            ("", 0, ""),
            ("2,3", 0, "2"),
            ("2,3", 1, "3"),
            (" GPU-aaaa , GPU-bbbb ", 1, "GPU-bbbb"),
        ],
    )
    def test_environment(
        self, monkeypatch: pytest.MonkeyPatch, visible: str | None, index: int, expected: str | None
    ) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert process._environment(index).get("CUDA_VISIBLE_DEVICES") == expected
