"""Small ONNX models for TensorRT, and a look at the processes that build."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pixelrt.bundle import MODEL, Bundle, sha256
from pixelrt.manifest import Manifest, Tensor

MakeModel = Callable[..., bytes]
WaitFor = Callable[..., list[int]]


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Return a factory of ONNX files with one input `x` and one output `y`."""

    def make(
        *nodes: NodeProto,
        shape: tuple[int | str, ...] = (1, 4, 32, 48),
        types: tuple[int, int] = (TensorProto.FLOAT, TensorProto.FLOAT),
        constants: dict[str, NDArray[np.generic]] | None = None,
    ) -> bytes:
        graph = helper.make_graph(
            nodes,
            "model",
            [helper.make_tensor_value_info("x", types[0], shape)],
            [helper.make_tensor_value_info("y", types[1], None)],
            [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        content: bytes = model.SerializeToString()
        return content

    return make


@pytest.fixture(scope="session")
def replace_model() -> Callable[[Bundle, bytes], Bundle]:
    """Return a function that puts another ONNX with `x` and `y` into a bundle."""

    def replace(bundle: Bundle, content: bytes) -> Bundle:
        manifest: Manifest = dataclasses.replace(
            bundle.manifest,
            inputs=(Tensor(name="x", dtype="float32", shape=(1, 4, 32, 48)),),
            outputs=(Tensor(name="y", dtype="float32", shape=(1, 4, 32, 5)),),
            artifacts=(dataclasses.replace(bundle.model, sha256=sha256(content), size_bytes=len(content)),),
        )
        (bundle.path / MODEL).write_bytes(content)
        (bundle.path / "manifest.json").write_text(manifest.to_json())
        return Bundle.open(bundle.path)

    return replace


@pytest.fixture(scope="session")
def workers() -> WaitFor:
    """Return a function that lists running build processes, of one parent or in one temporary folder."""

    def find(*, parent: int | None = None, folder: Path | None = None) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                status = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended while we looked
                continue
            ours = folder is None or str(folder).encode() in command
            child = parent is None or int(status[1]) == parent
            if b"pixelrt.trt.worker" in command and status[0] != "Z" and ours and child:
                found.append(int(entry.name))
        return found

    return find


@pytest.fixture(scope="session")
def small_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 that tells of one Jetson Orin, for LD_LIBRARY_PATH of child processes."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("small_driver.c")
    command = [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([*command, str(source)], check=True)
    return folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that builds use for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits until something holds."""

    def wait(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < end, "it did not happen within 20 s"
            time.sleep(0.01)

    return wait
