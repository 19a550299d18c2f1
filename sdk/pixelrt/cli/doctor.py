"""`pixelrt doctor`: what this machine has, what would run a bundle here, and why nothing else would.

With `--self-test` it runs the essential checks of the GPU and its libraries instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

from pixelrt.bundle import Bundle
from pixelrt.cuda.opening import choose, installed, unavailable
from pixelrt.errors import MissingDependency, PixelRTError
from pixelrt.machine import Installed, Load, Machine, describe, load, power
from pixelrt.self_test import Begun, Order, Result, plain, report_lines, run_self_test, summary, titles
from pixelrt.session import Choice, choices
from pixelrt.terminal import complain, heading, say, say_pairs, say_table, size_text, styled
from pixelrt.trt.cache import cache_folder
from pixelrt.trt.engine import supports
from pixelrt.trt.library import FLAVOURS, Flavour, load_library
from pixelrt.video.sources.gstreamer.player import describe_gstreamer
from pixelrt.video.sources.v4l2.device import survey

_EPILOG = """\
examples:
  pixelrt doctor                              what would run here
  pixelrt doctor engines/road-unet/bundle     what would run this bundle, given its gate
  pixelrt doctor --json | jq .choices
  pixelrt doctor --self-test                  a minute of checks: CUDA, TensorRT, ONNX Runtime, PixelRT
  pixelrt doctor --self-test engines/road-unet/bundle    and this bundle, as pixelrt.load opens it

exits with 1 if nothing here can run a bundle, or this one; with --self-test, if a check failed
(what this machine has not is no failure)
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this machine can run, and why",
        description="Show this machine's CPU, GPU, driver and libraries,\n"
        "which backend would be used, and why not the others.",
        epilog=_EPILOG,
    )
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", help="judge this bundle, not only the machine")
    parser.add_argument(
        "--self-test", action="store_true", help="check GPU, libraries and PixelRT; paste it into an issue"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the examination.

    Returns:
        0 if something can run, 1 if not; of the self-test, 1 if a check failed.
    """
    bundle = Bundle.open(arguments.bundle) if arguments.bundle else None
    if bundle is not None:
        bundle.read(bundle.model)  # a damaged bundle cannot run anywhere
    if arguments.self_test:
        return _self_test(bundle, as_json=arguments.json)
    machine, now, judged = describe(), load(), choices(bundle)
    if arguments.json:
        say(json.dumps(_plain(machine, now, judged, bundle), indent=2))
    else:
        _show_machine(machine, now)
        _show_libraries(machine.libraries)
        _show_choices(judged, bundle)
    return 0 if any(choice.usable for choice in judged) else PixelRTError.exit_code


def _plain(
    machine: Machine, now: Load, judged: tuple[Choice, ...], bundle: Bundle | None
) -> dict[str, object]:
    """Everything as plain data."""
    return {
        "machine": dataclasses.asdict(machine),
        "load": dataclasses.asdict(now),
        "cameras": [{**dataclasses.asdict(camera), "can": can} for camera, can in survey()],
        "bundle": str(bundle.path) if bundle else None,
        "choices": [dataclasses.asdict(choice) for choice in judged],
        "chosen": next((dataclasses.asdict(choice) for choice in judged if choice.usable), None),
    }


def _show_machine(machine: Machine, now: Load) -> None:
    cpu, memory, graphics = machine.processor, machine.memory, machine.graphics
    quota = f", of which its container grants {cpu.quota:g}" if cpu.quota else ""
    say(styled("This machine", "bold"))
    say_pairs(
        [
            ("PixelRT", machine.pixelrt),
            ("Python", machine.python),
            ("System", machine.system),
            ("CPU", f"{cpu.model} ({cpu.architecture}), {cpu.cores} cores{quota}"),
            ("", " ".join(cpu.flags) or "no instruction sets of interest"),
            ("bfloat16", "in hardware" if cpu.bfloat16 else "not in hardware"),
            ("Memory", _memory_text(machine)) if memory else ("Memory", "unknown"),
            ("Load", _load_text(now)),
            *[("GPU", _gpu_text(machine, index)) for index in range(len(graphics.gpus))],
            *([] if graphics.gpus else [("GPU", f"no NVIDIA GPU found ({graphics.found_by})")]),
            ("Driver", graphics.driver or "no NVIDIA driver loaded"),
            ("JetPack", graphics.jetpack or "none (this is no Jetson)"),
            *_power_pairs(),
            ("CUDA", cuda_text()),
            ("TensorRT", _tensorrt_text(machine)),
            ("Cache", _cache_text()),
            *_camera_pairs(),
            ("GStreamer", describe_gstreamer()),
        ]
    )


def _camera_pairs() -> list[tuple[str, str]]:
    found = [("Camera", f"{camera}: {can}") for camera, can in survey()]
    return found or [("Camera", "none: no /dev/video* gives pictures")]


def _cache_text() -> str:
    """Where engines that are built on this machine are kept. Nothing is made there."""
    try:
        folder = cache_folder()
    except PixelRTError as problem:
        return f"not usable: {problem}"
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return f"{folder}: not usable, {nearest} cannot be written to; PIXELRT_CACHE names another"
    engines = len(list(folder.glob("engines/*.engine")))
    return f"{folder} (engines that were built here: {engines}; PIXELRT_CACHE names another)"


def _show_libraries(libraries: tuple[Installed, ...]) -> None:
    heading("Libraries")
    say_table(
        ("extra", "library", "version", "for"),
        [
            (item.library.extra or "always", item.library.module, item.version or "-", item.library.purpose)
            for item in libraries
        ],
    )
    say(styled("  An extra is installed with, say: pip install 'pixelrt[cpu,video]'", "dim"))


def _show_choices(judged: tuple[Choice, ...], bundle: Bundle | None) -> None:
    heading(f"What would run {bundle.path if bundle else 'a bundle here'}")
    chosen = next((choice for choice in judged if choice.usable), None)
    for choice in judged:
        verdict = "used" if choice is chosen else "could" if choice.usable else "no"
        style = {"used": "green", "could": "yellow", "no": "red"}[verdict]
        where = f"{choice.backend} on {choice.device}"
        say(f"  {styled(verdict.ljust(5), style)}  {where.ljust(20)}  {choice.reason}")
    if chosen is None:
        say()
        say(
            styled("Nothing here can run it.", "red")
            + " On a CPU, this is the shortest way: pip install 'pixelrt[cpu]'"
        )


def _memory_text(machine: Machine) -> str:
    memory = machine.memory
    assert memory is not None
    return f"{size_text(memory.total_bytes)}, {size_text(memory.available_bytes)} available"


def _load_text(now: Load) -> str:
    parts = [
        f"{now.busy_share:.0%} of all cores in use" if now.busy_share is not None else "use unknown",
        f"load average {now.average_1min}" if now.average_1min is not None else "",
        f"governor {now.governor}" if now.governor else "",
        f"{now.frequency_mhz:.0f} MHz" if now.frequency_mhz else "",
    ]
    return ", ".join(part for part in parts if part)


def _gpu_text(machine: Machine, index: int) -> str:
    gpu = machine.graphics.gpus[index]
    memory = f", {gpu.memory_mib} MiB" if gpu.memory_mib else ""
    return f"{index}: {gpu.name}{memory}{f', {gpu.target}' if gpu.target else ''}"


def _power_pairs() -> list[tuple[str, str]]:
    found = power()
    pairs = [("Power mode", found.mode), ("GPU clocks", found.clocks)]
    return [(name, value) for name, value in pairs if value]


def cuda_text() -> str:
    """Which library would talk to CUDA, and why not the other; or why CUDA cannot be used."""
    if problem := unavailable():
        return f"not usable: {problem}"
    if choose() == "pycuda":
        return "through pycuda; cuda-python, which captures CUDA graphs, is not installed"
    beside = "is not taken, because it has no CUDA graphs" if "pycuda" in installed() else "is not installed"
    return f"through cuda-python; pycuda {beside}"


def _tensorrt_text(machine: Machine) -> str:
    versions = {item.library.module: item.version for item in machine.libraries}
    targets = [gpu.target for gpu in machine.graphics.gpus if gpu.target]
    found = [
        f"{FLAVOURS[flavour]} {versions[flavour]}{supported_text(flavour, targets)}"
        for flavour in FLAVOURS
        if versions[flavour]
    ]
    return ", ".join(found) or "none"


def supported_text(flavour: Flavour, targets: Sequence[str]) -> str:
    """Whether a TensorRT supports GPUs, in brackets; empty where there is none to ask for."""
    if not targets:
        return ""
    try:
        library = load_library(flavour)
    except MissingDependency as problem:
        return f" ({problem})"
    unknown = [target for target in targets if not supports(library, target)]
    return f" (does not support {', '.join(unknown)})" if unknown else f" (supports {', '.join(targets)})"


def _self_test(bundle: Bundle | None, *, as_json: bool) -> int:
    """Run the self-test and print its report."""

    def listen(message: Begun | Result) -> None:
        if isinstance(message, Begun):
            complain(f"{message.group}: {message.name} ...")

    order = Order(bundle=str(bundle.path.resolve()) if bundle else "")
    machine, now = describe(), load()
    results = run_self_test(order, listen)
    if as_json:
        facts = {"machine": dataclasses.asdict(machine), "load": dataclasses.asdict(now)}
        facts |= {"power": dataclasses.asdict(power()), "self_test": plain(results)}
        say(json.dumps(facts, indent=2))
    else:
        _show_machine(machine, now)
        versions = ", ".join(
            f"{item.library.module} {item.version}" for item in machine.libraries if item.version
        )
        say_pairs([("Libraries", versions)])
        for line in report_lines(results, titles(order)):
            say(line)
    return PixelRTError.exit_code if summary(results)["failed"] else 0
