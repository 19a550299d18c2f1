"""The CUDA contract where there is no GPU, how a driver is chosen, and what CUDA's errors become."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pixelrt.cuda import opening
from pixelrt.cuda.protocol import Driver
from pixelrt.cuda.status import STATUSES, Status, error_of, find
from pixelrt.errors import (
    ContextLost,
    DeviceError,
    DeviceLost,
    InputError,
    MissingDependency,
    OutOfMemory,
)
from pixelrt.testing import FakeCuda

HERE = Path(__file__).parents[1] / "cuda"


def load(name: str) -> ModuleType:
    """A module beside the tests, which pytest does not put on the path."""
    spec = importlib.util.spec_from_file_location(f"cuda_{name}", HERE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


contract = load("contract")


class TestFake(contract.CudaContract):  # type: ignore[misc,name-defined]  # loaded at run time
    name = "fake"

    def make(self) -> Driver:
        return FakeCuda()


class TestEagerFake(TestFake):
    def make(self) -> Driver:
        return FakeCuda(order="eager")


class TestRandomFakeWithoutGraphs(TestFake):
    def make(self) -> Driver:
        return FakeCuda(order="random", seed=3, captures_graphs=False)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an emulated libcuda.so.1."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("emulator")
    command = [
        compiler,
        "-O1",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        "-pthread",
        "-Wl,-soname,libcuda.so.1",
    ]
    command += [str(HERE / "emulator" / "libcuda.c"), "-o", str(folder / "libcuda.so.1"), "-ldl"]
    subprocess.run(command, check=True)
    return folder


def over_the_emulator(emulator: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(emulator)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=250
    )


@pytest.mark.parametrize(
    ("name", "cls", "least"),
    [
        ("cuda-python", "TestCudaPython", 50),
        ("cuda-python", "TestPipelineOnCudaPython", 20),
        ("pycuda", "TestPycuda", 50),
        ("pycuda", "TestPipelineOnPycuda", 20),
    ],
)
def test_the_contract_over_the_emulator(
    emulator: Path, name: opening.DriverName, cls: str, least: int
) -> None:
    if name not in opening.installed():
        pytest.skip(f"{name} is not installed")
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", f"{HERE / 'emulated.py'}::{cls}"]
    done = over_the_emulator(emulator, "-m", "pytest", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.rsplit(" passed", 1)[0].split()[-1]) >= least, done.stdout


def test_the_emulator_is_not_seen_here() -> None:
    assert "emulator" not in Path("/proc/self/maps").read_text()


# --- opening


@pytest.fixture
def no_driver() -> None:
    try:
        opening.count_devices()
    except DeviceError:
        return
    pytest.skip("there is a GPU here")


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_the_machine_is_named_and_not_the_library() -> None:
    with pytest.raises(DeviceError, match=r"no NVIDIA driver here .*--gpus all.*device='cpu'"):
        opening.open_driver()
    assert "no NVIDIA driver here" in opening.unavailable()


@pytest.mark.usefixtures("no_driver")
def test_the_bindings_say_the_same_when_opened_directly() -> None:
    pytest.importorskip("cuda.bindings.driver")
    from pixelrt.cuda.cuda_python import open_cuda_python

    with pytest.raises(DeviceError, match=r"cuInit cannot be called: .*install an NVIDIA driver as new as"):
        open_cuda_python()
    gc.collect()


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(InputError, match="'cupy', expected one of cuda-python, pycuda"):
        opening.open_driver("cupy")  # type: ignore[arg-type]


def test_cuda_python_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_exists", lambda module: True)
    assert opening.installed() == ("cuda-python", "pycuda")
    assert opening.choose() == "cuda-python"
    assert opening.choose("pycuda") == "pycuda"
    monkeypatch.setattr(opening, "_exists", lambda module: module == "pycuda")
    assert opening.choose() == "pycuda"
    with pytest.raises(MissingDependency, match=r"'cuda.bindings', which is not installed.*pixelrt\[cuda\]"):
        opening.choose("cuda-python")
    monkeypatch.setattr(opening, "_exists", lambda module: False)
    with pytest.raises(MissingDependency, match=r"none is installed.*pip install 'pixelrt\[cuda\]'"):
        opening.open_driver()
    assert "none is installed" in opening.unavailable()
    assert "pixelrt[pycuda]" in opening.unavailable("pycuda")


def test_asking_whether_cuda_is_there_imports_no_library(emulator: Path) -> None:
    program = (
        "import sys\n"
        "from pixelrt.cuda.opening import unavailable\n"
        "print(unavailable() or 'available', *sys.modules)"
    )
    if not opening.installed():
        pytest.skip("no CUDA library is installed")
    done = over_the_emulator(emulator, "-c", program)
    assert done.stdout.split()[0] == "available", done.stdout + done.stderr
    assert not {"cuda.bindings.driver", "pycuda"} & set(done.stdout.split())


# --- errors


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (1, DeviceError, "address"),
        (2, OutOfMemory, "fewer slots"),
        (46, DeviceLost, "reset the GPU"),
        (100, DeviceLost, "dmesg"),
        (3, ContextLost, "pixelrt.isolate"),
        (201, ContextLost, "other code of this process destroyed the CUDA context"),
        (214, DeviceLost, "restart the machine"),
        (700, ContextLost, "pixelrt.isolate"),
        (719, ContextLost, "start a new one"),
        (803, DeviceError, "restart the machine"),
        (999, ContextLost, "start a new one"),
    ],
)
def test_codes_become_errors(code: int, kind: type[DeviceError], advice: str) -> None:
    status = STATUSES[code]
    problem = error_of("cuStreamSynchronize", status)
    assert type(problem) is kind
    start = f"cuStreamSynchronize failed: {status.text} ({status.name} {code}); "
    assert str(problem).startswith(start) and advice in str(problem)


def test_a_gpu_that_never_worked_is_not_lost() -> None:
    for code in (3, 46, 100, 201, 214, 719, 999):
        assert type(error_of("cuInit", STATUSES[code], opening=True)) is DeviceError
    assert type(error_of("cuDevicePrimaryCtxRetain", STATUSES[2], opening=True)) is OutOfMemory


def test_an_unknown_code_is_told_as_it_is() -> None:
    problem = error_of("cuInit", Status(12345, "", ""))
    assert type(problem) is DeviceError
    assert str(problem).startswith("cuInit failed: no text (CUresult 12345); see: nvidia-smi")


def test_texts_lead_back_to_codes() -> None:
    assert len({status.text for status in STATUSES.values()}) == len(STATUSES)
    assert all(find(f" {status.text}\n") is status for status in STATUSES.values())
    assert find("something else") is None


def test_the_names_are_those_of_cuda() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    for code, status in STATUSES.items():
        assert code == status.code == int(getattr(driver.CUresult, status.name))
