"""`pixelrt doctor`, and the facts about a machine that it shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from pixelrt import machine
from pixelrt.bundle import Bundle
from pixelrt.cli import main

MakeBundle = Callable[..., Bundle]
Capture = pytest.CaptureFixture[str]

NUMPY_ALONE = """
import importlib.metadata, sys

class OnlyNumpy:
    def find_spec(self, name, path=None, target=None):
        first = name.split(".")[0]
        if first in sys.stdlib_module_names or first in ("numpy", "pixelrt"):
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def find_distributions(self, context):
        return iter(())

all_distributions = importlib.metadata.Distribution.discover
importlib.metadata.Distribution.discover = lambda **options: (
    found for found in all_distributions(**options) if found.name in ("numpy", "pixelrt"))
sys.meta_path.insert(0, OnlyNumpy())
from pixelrt.cli import main
sys.exit(main(sys.argv[1:]))
"""


class TestDoctor:
    def test_for_people(self, capsys: Capture) -> None:
        assert main(["doctor"]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"Python +3\.\d+\.\d+ \(CPython\)", shown)
        assert re.search(rf"cpu +openvino +{re.escape(version('openvino'))} +runs networks on the CPU", shown)
        assert re.search(r"used +openvino on cpu +can compute in ", shown)

    def test_as_json(self, capsys: Capture) -> None:
        assert main(["doctor", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["chosen"]["backend"] == "openvino"
        assert found["machine"]["processor"]["cores"] >= 1
        installed = {item["library"]["module"]: item["version"] for item in found["machine"]["libraries"]}
        assert installed["numpy"] == version("numpy")
        assert installed["tensorrt_rtx"] == version("tensorrt_rtx_cu13")
        assert installed["pycuda"] is None

    def test_judges_a_bundle(self, make_bundle: MakeBundle, capsys: Capture) -> None:
        bundle = make_bundle(passed={("openvino", "float32"): True})
        assert main(["doctor", str(bundle.path)]) == 0
        shown = capsys.readouterr().out
        assert f"What would run {bundle.path}" in shown
        assert "float32 is the fastest precision here whose gate passed" in shown

    def test_a_damaged_bundle(self, make_bundle: MakeBundle, capsys: Capture) -> None:
        bundle = make_bundle(passed={("openvino", "float32"): True})
        (bundle.path / "model.onnx").unlink()
        assert main(["doctor", str(bundle.path)]) == 1
        assert "model.onnx cannot be read" in capsys.readouterr().err

    def test_a_bundle_that_nothing_may_run(self, make_bundle: MakeBundle, capsys: Capture) -> None:
        failed = [("openvino", "float32"), ("openvino", "bfloat16"), ("onnxruntime", "float32")]
        bundle = make_bundle(passed=dict.fromkeys(failed, False))
        assert main(["doctor", str(bundle.path)]) == 1
        assert "Nothing here can run it." in capsys.readouterr().out

    def test_with_numpy_alone_it_says_what_to_install(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", NUMPY_ALONE, "doctor"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, "")
        assert re.search(r"cpu +openvino +- ", done.stdout)
        assert "no     openvino on cpu" in done.stdout
        assert "pip install 'pixelrt[cpu]'" in done.stdout


class TestMachine:
    def test_the_libraries_are_those_of_the_extras(self) -> None:
        lines = (Path(__file__).parents[2] / "pyproject.toml").read_text().splitlines()
        named = {match.group(1) for line in lines if (match := re.search(r'"([a-z0-9-]+)>=', line))}
        for library in machine.LIBRARIES:
            assert not named.isdisjoint(library.distributions), library.module

    def test_versions_are_those_of_the_installed_packages(self) -> None:
        found = {item.library.module: item.version for item in machine.describe().libraries}
        assert found["cv2"] == version("opencv-python-headless")
        assert found["cuda.bindings"] == version("cuda-bindings")
        assert found["pycuda"] is None

    def test_a_module_without_a_package_is_of_unknown_version(self) -> None:
        library = machine.Library(module="json", extra="", purpose="", distributions=("no-such-package",))
        assert machine.version(library) == "unknown"

    def test_this_cpu(self) -> None:
        text = Path("/proc/cpuinfo").read_text()
        cpu = machine.processor()
        assert cpu.bfloat16 is bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", text))
        assert set(cpu.flags) <= set(text.split())

    def test_nvidia_smi(self) -> None:
        text = "NVIDIA GeForce RTX 3060, 580.65.06, 12288, 8.6\nOrin (nvgpu), 580.65.06, [N/A], 8.7\n"
        gpus, driver = machine.parse_smi(text)
        assert driver == "580.65.06"
        assert gpus[0] == machine.Gpu(name="NVIDIA GeForce RTX 3060", memory_mib=12288, target="sm86")
        assert gpus[1] == machine.Gpu(name="Orin (nvgpu)", memory_mib=None, target="sm87")

    def test_the_kernel_module(self) -> None:
        text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC: 12"
        assert machine.parse_driver(text) == "580.65.06"
        assert machine.parse_driver("") == ""

    @pytest.mark.parametrize(
        ("release", "revision", "expected"),
        [
            ("36", "4.3", "JetPack 6.1 or 6.2 (L4T 36.4.3)"),
            ("35", "5.0", "JetPack 5 (L4T 35.5.0)"),
            ("38", "4.0", "JetPack 7.1 (L4T 38.4.0)"),
            ("41", "1.0", "Jetson, unknown JetPack (L4T 41.1.0)"),
        ],
    )
    def test_jetpack(self, release: str, revision: str, expected: str) -> None:
        text = f"# R{release} (release), REVISION: {revision}, GCID: 1, BOARD: generic, EABI: aarch64\n"
        assert machine.parse_tegra_release(text) == expected

    def test_no_jetpack(self) -> None:
        assert machine.parse_tegra_release("") == ""

    def test_load(self) -> None:
        now = machine.load()
        assert now.busy_share is not None
        assert 0 <= now.busy_share <= 1
        assert machine.parse_ticks("cpu  10 0 20 60 10 0 0 0 5 0\ncpu0 1") == (70, 100)

    def test_memory_of_this_process(self) -> None:
        peak, resident = machine.peak_memory_bytes(), machine.resident_memory_bytes()
        assert peak is not None
        assert resident is not None
        assert 10e6 < resident <= peak
