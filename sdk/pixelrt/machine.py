"""Facts about this machine: processor, memory, GPUs, driver, JetPack and installed libraries.

Nothing heavy is imported: the facts come from /proc, /sys, `nvidia-smi` and the metadata of packages.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from pixelrt import __version__

_FLAGS = (
    *("avx2", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *(
        "amx_tile",
        "amx_bf16",
        "amx_int8",
        "amx_fp16",
        "asimd",
        "fphp",
        "asimdhp",
        "bf16",
        "i8mm",
        "sve",
        "sve2",
    ),
)
"""What decides how fast a network runs and in which precisions, of the flags that Linux lists."""

_QUERY = ("name", "driver_version", "memory.total", "compute_cap")
_CLOCKS = ("clocks.sm", "clocks.max.sm", "clocks.mem", "pstate", "power.draw", "temperature.gpu")
_TEGRA_GPU = re.compile(r"\.(gpu|ga10b|gv11b|gb10b)$")
_DEVFREQ = Path("/sys/class/devfreq")
_SMI_LIMIT_S = 20
_SAMPLE_S = 0.3
_BUSY_SHARE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """The CPU as this process may use it."""

    model: str
    architecture: str
    cores: int
    """Logical cores that this process may run on."""
    quota: float | None
    """Cores' worth of time that its container grants; None where nothing limits it."""
    flags: tuple[str, ...]
    """Instruction sets that matter to networks."""

    @property
    def bfloat16(self) -> bool:
        """Whether it multiplies bfloat16 in hardware."""
        return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Main memory."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """An NVIDIA GPU that the driver sees. Unknown values are empty or None."""

    name: str
    memory_mib: int | None
    target: str
    """`sm86`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graphics:
    """The GPUs, their driver, and on a Jetson its software."""

    gpus: tuple[Gpu, ...]
    driver: str
    """Version; empty where no NVIDIA driver is loaded."""
    jetpack: str
    """`JetPack 6.1 or 6.2 (L4T 36.4.3)`; empty where this is no Jetson."""
    found_by: str
    """Where this comes from, or why there is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library that PixelRT uses where it is installed."""

    module: str
    extra: str
    """The extra of `pixelrt` that installs it; empty for what is always needed."""
    purpose: str
    distributions: tuple[str, ...]
    """Names of the packages that provide it; the first is the usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A library and the version found here, None where it is absent."""

    library: Library
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy the machine is at the moment. Values that the system does not tell are None."""

    average_1min: float | None
    """Processes that wanted a core, over the last minute."""
    busy_share: float | None
    """Share of all cores that was in use during a short look, 0..1."""
    governor: str | None
    frequency_mhz: float | None

    @property
    def busy(self) -> bool:
        """Whether something else runs here that would slow a measurement down."""
        return self.busy_share is not None and self.busy_share > _BUSY_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What decides how fast the GPU is at the moment."""

    mode: str
    """Of a Jetson: `MAXN`; empty elsewhere."""
    clocks: str
    """`1300 of 1300 MHz`, on other GPUs with memory, state, power and temperature; empty where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Everything above that does not change from second to second."""

    pixelrt: str
    python: str
    system: str
    processor: Processor
    memory: Memory | None
    graphics: Graphics
    libraries: tuple[Installed, ...]


LIBRARIES = (
    Library(module="numpy", extra="", purpose="frames, masks and tensors", distributions=("numpy",)),
    Library(module="openvino", extra="cpu", purpose="runs networks on the CPU", distributions=("openvino",)),
    Library(
        module="cv2",
        extra="video",
        purpose="resizes and draws; also in the extras cpu and export",
        distributions=("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless"),
    ),
    Library(module="av", extra="video", purpose="decodes and encodes video", distributions=("av",)),
    Library(
        module="onnxruntime",
        extra="onnxruntime",
        purpose="runs the portable ONNX",
        distributions=("onnxruntime", "onnxruntime-gpu"),
    ),
    Library(
        module="tensorrt",
        extra="tensorrt",
        purpose="builds and runs engines on Jetson and data-centre GPUs",
        distributions=("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    ),
    Library(
        module="tensorrt_rtx",
        extra="rtx",
        purpose="builds engines for GeForce/RTX GPUs, here without one",
        distributions=("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
    ),
    Library(
        module="cuda.bindings",
        extra="cuda",
        purpose="device memory, streams and graphs",
        distributions=("cuda-bindings",),
    ),
    Library(
        module="pycuda", extra="pycuda", purpose="the same, on robots that have it", distributions=("pycuda",)
    ),
    Library(
        module="nvtx",
        extra="nvtx",
        purpose="names what the GPU does in Nsight Systems",
        distributions=("nvtx",),
    ),
    Library(module="torch", extra="export", purpose="the model to export", distributions=("torch",)),
    Library(module="onnx", extra="export", purpose="writes the portable graph", distributions=("onnx",)),
    Library(
        module="onnxscript", extra="export", purpose="torch's ONNX exporter", distributions=("onnxscript",)
    ),
    Library(module="onnxslim", extra="export", purpose="folds constants", distributions=("onnxslim",)),
    Library(
        module="safetensors",
        extra="export",
        purpose="checkpoints without code",
        distributions=("safetensors",),
    ),
    Library(module="rich", extra="cli", purpose="progress bars and tables", distributions=("rich",)),
    Library(module="shtab", extra="cli", purpose="shell completion", distributions=("shtab",)),
)
"""In the order in which `pixelrt doctor` lists them."""


def describe() -> Machine:
    """Gather all facts. Takes up to a second where `nvidia-smi` is slow."""
    return Machine(
        pixelrt=__version__,
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        system=_system(),
        processor=processor(),
        memory=memory(),
        graphics=graphics(),
        libraries=tuple(Installed(library=library, version=version(library)) for library in LIBRARIES),
    )


def processor() -> Processor:
    """The CPU."""
    text = _read("/proc/cpuinfo")
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    present = set(found.group(1).split()) if found else set()
    return Processor(
        model=_processor_model(text),
        architecture=platform.machine(),
        cores=_cores(),
        quota=_quota(),
        flags=tuple(flag for flag in _FLAGS if flag in present),
    )


def memory() -> Memory | None:
    """Main memory, None where the system does not tell."""
    text = _read("/proc/meminfo")
    found = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    if "MemTotal" not in found:
        return None
    return Memory(total_bytes=found["MemTotal"], available_bytes=found.get("MemAvailable", found["MemTotal"]))


def graphics() -> Graphics:
    """NVIDIA GPUs, driver and JetPack."""
    jetpack = parse_tegra_release(_read("/etc/nv_tegra_release"))
    driver = parse_driver(_read("/proc/driver/nvidia/version"))
    answer, problem = _ask_smi()
    if answer:
        gpus, smi_driver = parse_smi(answer)
        return Graphics(gpus=gpus, driver=smi_driver or driver, jetpack=jetpack, found_by="nvidia-smi")
    names = re.findall(r"^Model:\s*(.+)$", _gpu_information(), re.MULTILINE)
    if not names and jetpack:
        names = [_read("/proc/device-tree/model").strip("\0\n ") or "Jetson"]
    return Graphics(
        gpus=tuple(Gpu(name=name, memory_mib=None, target="") for name in names),
        driver=driver,
        jetpack=jetpack,
        found_by=f"/proc/driver/nvidia ({problem})" if driver else problem,
    )


def version(library: Library) -> str | None:
    """Version of an installed library, "unknown" where its package does not tell, None where it is absent."""
    for distribution in library.distributions:
        for found in importlib.metadata.distributions(name=distribution):
            return found.version
    try:
        present = importlib.util.find_spec(library.module) is not None
    except ModuleNotFoundError:  # the package that would hold the module is absent
        present = False
    return "unknown" if present else None


def load() -> Load:
    """How busy the machine is. Looks for a third of a second."""
    before = parse_ticks(_read("/proc/stat"))
    time.sleep(_SAMPLE_S)
    after = parse_ticks(_read("/proc/stat"))
    frequency = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").strip()
    listed = re.search(r"^cpu MHz\s*:\s*([\d.]+)", _read("/proc/cpuinfo"), re.MULTILINE)
    return Load(
        average_1min=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        busy_share=_share(before, after),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        frequency_mhz=int(frequency) / 1000 if frequency else float(listed.group(1)) if listed else None,
    )


def power() -> Power:
    """Power mode and clocks of the GPU, asked of the tools of its driver."""
    answer, problem = _ask("nvidia-smi", f"--query-gpu={','.join(_CLOCKS)}", "--format=csv,noheader")
    asked = "" if problem else "; ".join(answer.strip().splitlines())
    known = any(character.isdigit() for character in asked)
    mode, _ = _ask("nvpmodel", "-q")
    return Power(mode=parse_nvpmodel(mode), clocks=asked if known else _tegra_clocks())


def peak_memory_bytes() -> int | None:
    """Most main memory that this process held at once, None where the system does not tell."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", _read("/proc/self/status"), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def resident_memory_bytes() -> int | None:
    """Main memory that this process holds now, None where the system does not tell."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", _read("/proc/self/status"), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def parse_smi(text: str) -> tuple[tuple[Gpu, ...], str]:
    """GPUs and driver version from `nvidia-smi --query-gpu=... --format=csv,noheader,nounits`."""
    gpus, driver = [], ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(_QUERY):
            continue
        name, driver, mebibytes, capability = cells
        known = re.fullmatch(r"\d+\.\d+", capability)
        gpus.append(
            Gpu(
                name=name,
                memory_mib=int(mebibytes) if mebibytes.isdecimal() else None,
                target=f"sm{capability.replace('.', '')}" if known else "",
            )
        )
    return tuple(gpus), driver


def parse_driver(text: str) -> str:
    """Version from /proc/driver/nvidia/version, empty where there is none."""
    found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", text)
    return found.group(1) if found else ""


def parse_tegra_release(text: str) -> str:
    """JetPack and L4T from /etc/nv_tegra_release, empty where there is none.

    The first line reads `# R36 (release), REVISION: 4.3, GCID: ...`.
    """
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    if found is None:
        return ""
    release, revision = found.groups()
    known = {
        "35": "JetPack 5",
        "36.2": "JetPack 6.0 (developer preview)",
        "36.3": "JetPack 6.0",
        "36.4": "JetPack 6.1 or 6.2",
        "38.2": "JetPack 7.0",
        "38.4": "JetPack 7.1",
        "39.2": "JetPack 7.2",
    }
    name = known.get(f"{release}.{revision.split('.')[0]}", known.get(release, "Jetson, unknown JetPack"))
    return f"{name} (L4T {release}.{revision})"


def parse_nvpmodel(text: str) -> str:
    """The power mode from `nvpmodel -q`: `NV Power Mode: MAXN`; empty where there is none."""
    found = re.search(r"^NV Power Mode:\s*(\S+)", text, re.MULTILINE)
    return found.group(1) if found else ""


def parse_ticks(text: str) -> tuple[int, int] | None:
    """Idle and total processor time from /proc/stat."""
    found = re.match(r"cpu\s+([\d ]+)", text)
    if found is None:
        return None
    ticks = [int(value) for value in found.group(1).split()][
        :8
    ]  # what follows is counted in user time already
    return ticks[3] + ticks[4], sum(ticks)


def _share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return round(1 - (after[0] - before[0]) / (after[1] - before[1]), 3)


def _system() -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read("/etc/os-release"), re.MULTILINE)
    kernel = f"{platform.system()} {platform.release()}"
    return f"{found.group(1)}, {kernel}" if found else kernel


def _processor_model(text: str) -> str:
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or "unknown"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> float | None:
    found = re.match(r"(\d+) (\d+)", _read("/sys/fs/cgroup/cpu.max"))
    return int(found.group(1)) / int(found.group(2)) if found else None


def _ask_smi() -> tuple[str, str]:
    """The answer of nvidia-smi, or why there is none."""
    return _ask("nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits")


def _ask(name: str, *arguments: str) -> tuple[str, str]:
    """The answer of a program, or why there is none."""
    program = shutil.which(name)
    if program is None:
        return "", f"{name} is not on the PATH"
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_SMI_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return "", f"{name} did not answer: {problem}"
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        return "", f"{name} failed: {said[0] if said else f'exit code {done.returncode}'}"
    return done.stdout, ""


def _tegra_clocks() -> str:
    """The clock of a Jetson's GPU, empty elsewhere."""
    for folder in sorted(_DEVFREQ.glob("*")):
        if _TEGRA_GPU.search(folder.name):
            now, most = (_read(str(folder / name)).strip() for name in ("cur_freq", "max_freq"))
            if now.isdecimal() and most.isdecimal():
                return f"{int(now) // 1_000_000} of {int(most) // 1_000_000} MHz"
    return ""


def _gpu_information() -> str:
    return "\n".join(
        _read(str(file)) for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    )


def _read(file: str) -> str:
    """A file of the system, empty where this system has none."""
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
