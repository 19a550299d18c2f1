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
from pixelrt.cli import doctor, main
from pixelrt.self_test import Result

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


class TestSelfTest:
    def test_for_people(self, capsys: Capture) -> None:
        assert main(["doctor", "--self-test"]) == 0
        shown = capsys.readouterr()
        assert re.search(r"Python +3\.\d+\.\d+ \(CPython\)", shown.out)
        assert re.search(r"Libraries +numpy [\d.]+, openvino", shown.out)
        assert re.search(r"OpenVINO on the CPU, the tiny network\n  ok +loads ", shown.out)
        assert re.search(r"\d+ ok, 0 FAILED, \d+ not possible here\n$", shown.out)
        assert "openvino-cpu: masks ...\n" in shown.err

    def test_as_json_with_a_bundle(self, make_bundle: MakeBundle, capsys: Capture) -> None:
        bundle = make_bundle(passed={("openvino", "float32"): True})
        assert main(["doctor", "--self-test", "--json", str(bundle.path)]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["machine"]["processor"]["cores"] >= 1
        checks = {(check["group"], check["name"]): check for check in found["self_test"]["checks"]}
        assert checks["bundle", "loads"]["figures"]["backend"].startswith("openvino ")
        assert checks["bundle", "speed"]["figures"]["frames"] == 50
        assert checks["bundle", "agreement"]["status"] == "ok"
        assert len(checks) == len(found["self_test"]["checks"]) > 50

    def test_a_failed_check_is_an_error(self, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
        failed = Result("openvino-cpu", "masks", "failed", "9 of 10 values differ", 0.1, {})
        monkeypatch.setattr(doctor, "run_self_test", lambda order, listen: [failed])
        assert main(["doctor", "--self-test"]) == 1
        assert "FAILED             masks" in capsys.readouterr().out

    def test_help_with_numpy_alone(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", NUMPY_ALONE, "doctor", "--self-test", "-h"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "--self-test" in done.stdout


class TestCudaAndTensorRT:
    @pytest.mark.parametrize(
        ("there", "text"),
        [
            (("cuda-python",), "through cuda-python; pycuda is not installed"),
            (
                ("cuda-python", "pycuda"),
                "through cuda-python; pycuda is not taken, because it has no CUDA graphs",
            ),
            (("pycuda",), "through pycuda; cuda-python, which captures CUDA graphs, is not installed"),
        ],
    )
    def test_the_library_that_would_be_taken(
        self, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], text: str
    ) -> None:
        monkeypatch.setattr(doctor, "unavailable", lambda: "")
        monkeypatch.setattr(doctor, "installed", lambda: there)
        monkeypatch.setattr(doctor, "choose", lambda: there[0])
        assert doctor.cuda_text() == text

    def test_no_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "unavailable", lambda: "no NVIDIA driver here")
        assert doctor.cuda_text() == "not usable: no NVIDIA driver here"

    def test_which_gpus_tensorrt_supports(self) -> None:
        assert doctor.supported_text("tensorrt_rtx", []) == ""
        assert doctor.supported_text("tensorrt_rtx", ["sm86"]) == " (supports sm86)"
        assert doctor.supported_text("tensorrt_rtx", ["sm86", "sm90"]) == " (does not support sm90)"
        assert "which is not installed" in doctor.supported_text("tensorrt", ["sm86"])


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

    def test_power_mode(self) -> None:
        text = "NV Fan Mode:quiet\nNV Power Mode: MAXN\n0\n"
        assert machine.parse_nvpmodel(text) == "MAXN"
        assert machine.parse_nvpmodel("") == ""

    def test_clocks_and_mode_come_from_the_driver_s_tools(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, answer in (
            ("nvidia-smi", "1980 MHz, 1980 MHz, 2619 MHz, P0, 120.5 W, 41"),
            ("nvpmodel", "NV Power Mode: 15W"),
        ):
            (tmp_path / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
        assert machine.power() == machine.Power(
            mode="15W", clocks="1980 MHz, 1980 MHz, 2619 MHz, P0, 120.5 W, 41"
        )

    def test_a_jetson_s_nvidia_smi_knows_no_clocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho '[N/A], [N/A], [N/A], N/A, [N/A], [N/A]'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        folder = tmp_path / "devfreq" / "17000000.gpu"
        folder.mkdir(parents=True)
        (folder / "cur_freq").write_text("612000000\n")
        (folder / "max_freq").write_text("1300500000\n")
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
        monkeypatch.setattr(machine, "_DEVFREQ", folder.parent)
        assert machine.power().clocks == "612 of 1300 MHz"

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
