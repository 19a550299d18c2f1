"""The state of the machine: the GPU's clocks and power, the rate of its bus, and the commit that was run."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import harness

from pixelrt.cuda.protocol import Driver, Stream

_FIELDS = (
    *("index", "name", "driver_version", "pstate", "persistence_mode", "temperature.gpu"),
    *("clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem", "power.draw", "power.limit"),
    *("utilization.gpu", "memory.used", "pcie.link.gen.current", "pcie.link.width.current"),
)
_WHY_SLOWED = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""The name that newer drivers have, and the old one: a bit mask of NVML."""
_LIMIT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRate:
    """Copies of page-locked memory, of the size of a frame, one at a time."""

    size_bytes: int
    copies: int
    up_gb_per_s: float
    down_gb_per_s: float

    def ideal_ms(self, up_bytes: int, down_bytes: int) -> float:
        """How long copies of these sizes take at this rate."""
        return up_bytes / (self.up_gb_per_s * 1e6) + down_bytes / (self.down_gb_per_s * 1e6)


def gpu_state() -> dict[str, object]:
    """Clocks, power and temperature of every GPU as nvidia-smi gives them, or why it does not."""
    rows, problem = _ask(_FIELDS)
    if problem:
        return {"gpus": [], "problem": problem}
    gpus = [dict(zip(_FIELDS, row, strict=True)) for row in rows]
    for name in _WHY_SLOWED:
        answers, problem = _ask((name,))
        if not problem and len(answers) == len(gpus):
            for gpu, (answer,) in zip(gpus, answers, strict=True):
                gpu["slowed_by"] = answer
            break
    return {"gpus": gpus, "problem": ""}


def state_text(state: dict[str, object]) -> str:
    """For the terminal, one line."""
    gpus = state["gpus"]
    assert isinstance(gpus, list)
    lines = (
        f"{gpu['pstate']}, SM {gpu['clocks.sm']} of {gpu['clocks.max.sm']} MHz, memory {gpu['clocks.mem']} "
        f"MHz, {gpu['power.draw']} of {gpu['power.limit']} W, {gpu['temperature.gpu']} C"
        for gpu in gpus
    )
    return "; ".join(lines) or f"unknown: {state['problem']}"


def copy_rate(driver: Driver, size_bytes: int, copies: int = 50) -> CopyRate:
    """Measure the bus.

    Args:
        driver: CUDA on the GPU.
        size_bytes: Of each copy.
        copies: How many each way, after one that does not count; the median is taken.
    """
    with (
        driver.current(),
        driver.stream() as stream,
        driver.allocate_host(size_bytes) as host,
        driver.allocate(size_bytes) as memory,
    ):
        up, down = [], []
        for _ in range(copies + 1):
            up.append(_timed(driver, stream, lambda: stream.copy_to_device(memory.address, host.array)))
            down.append(_timed(driver, stream, lambda: stream.copy_to_host(host.array, memory.address)))
    return CopyRate(
        size_bytes=size_bytes,
        copies=copies,
        up_gb_per_s=round(size_bytes / statistics.median(up[1:]) / 1e6, 3),
        down_gb_per_s=round(size_bytes / statistics.median(down[1:]) / 1e6, 3),
    )


def git_state() -> dict[str, object]:
    """The commit that was run, and whether files differ from it; empty outside of a git repository."""
    commit = _git("rev-parse", "HEAD")
    return {"commit": commit, "modified": bool(_git("status", "--porcelain"))} if commit else {}


def rate_json(rate: CopyRate) -> dict[str, object]:
    """For the result file."""
    return dataclasses.asdict(rate)


def _timed(driver: Driver, stream: Stream, copy: Callable[[], None]) -> float:
    with driver.event(timing=True) as begin, driver.event(timing=True) as end:
        stream.record(begin)
        copy()
        stream.record(end)
        end.synchronize()
        return float(end.elapsed_ms(begin))


def _ask(fields: Sequence[str]) -> tuple[list[list[str]], str]:
    """One row of answers per GPU, or why there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], "nvidia-smi is not on the PATH"
    command = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return [], f"nvidia-smi did not answer: {problem}"
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or any(len(row) != len(fields) for row in rows):
        said = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
        return [], f"nvidia-smi: {said[0]}"
    return rows, ""


def _git(*words: str) -> str:
    program = shutil.which("git")
    if program is None:
        return ""
    command = [program, "-C", str(harness.ROOT), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
