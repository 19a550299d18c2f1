"""Every attribute of TensorRT that the code touches is there, or is looked for before it is used.

There are four interfaces: TensorRT-RTX as it is installed, the oldest and the newest public stubs of 10.x,
and the names in the bindings of 11. The last three are in tensorrt_api.json, see tensorrt_api.py.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tensorrt_rtx as trt

import pixelrt.trt
from pixelrt.trt import settings

FOLDER = Path(pixelrt.trt.__file__).parent
KINDS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "error": "ParserError",
    "plan": "IHostMemory",
    "tensor": "ITensor",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "refitter": "Refitter",
    "reader": "OnnxParserRefitter",
}
"""What the code calls TensorRT's objects; with an underscore before it where it is an attribute of ours."""

KINDS_IN: dict[str, dict[str, str]] = {
    "settings": {"layer": "ILayer"},
    "timing_cache": {"cache": "ITimingCache"},
    "engine": {"config": "IRuntimeConfig"},
    "runtime_cache": {"config": "IRuntimeConfig", "cache": "IRuntimeCache"},
}
"""What a file calls otherwise."""

RTX_ALONE = {
    "builder._set_targets": "named targets, which the regular TensorRT has not and is refused before",
    "targets.compute_capabilities": "likewise",
    "runtime_cache": "made only where the runtime's configuration has TensorRT-RTX's strategies",
}
"""Functions and files of which the regular TensorRT never sees a line, and why."""

FILES = (
    "library",
    "targets",
    "network",
    "builder",
    "settings",
    "timing_cache",
    "inspection",
    "refitting",
    "worker",
    "engine",
    "runtime_cache",
)

Has = Callable[[str, str], bool]


@dataclass(frozen=True)
class Use:
    """An attribute that a file touches."""

    kind: str
    """A class of TensorRT, or an enumeration; `` is the module."""
    name: str
    place: str
    probed: bool
    """Whether the function looks for something before, or is there for TensorRT-RTX alone."""


def has_rtx(kind: str, name: str) -> bool:
    return hasattr(getattr(trt, kind, None) if kind else trt, name)


def interfaces() -> Iterator[tuple[str, Has]]:
    known = json.loads(Path(__file__).with_name("tensorrt_api.json").read_text())
    yield f"TensorRT-RTX {trt.__version__}", has_rtx
    for version, classes in known["stubs"].items():
        yield f"TensorRT {version}", lambda kind, name, classes=classes: name in classes.get(kind, ())
    for version, names in known["mentioned"].items():
        yield (
            f"TensorRT {version}",
            lambda _, name, names=names: name in names,
        )


INTERFACES = dict(interfaces())


def uses(file: str) -> list[Use]:
    """What of TensorRT a file touches directly. What is reached through strings is looked for, by nature."""
    tree = ast.parse((FOLDER / f"{file}.py").read_text())
    found = []
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
        alone = {file, f"{file}.{function.name}"} & set(RTX_ALONE)
        probed = bool(alone or {"hasattr", "getattr"} & set(calls))
        touched = [node for node in ast.walk(function) if isinstance(node, ast.Attribute)]
        found += [
            Use(*use, place=f"{file}.{function.name}", probed=probed)
            for node in touched
            if (use := kind_of(node, file))
        ]
    return found


def kind_of(node: ast.Attribute, file: str) -> tuple[str, str] | None:
    if node.attr.startswith("__"):  # every class has them, and the stubs leave them out
        return None
    owners = [part.lstrip("_") for part in ast.unparse(node.value).split(".")]
    if owners[-1] == "trt":
        return "", node.attr
    if len(owners) > 1 and owners[-2] == "trt":
        return owners[-1], node.attr
    kinds = {**KINDS, **KINDS_IN.get(file, {})}
    return (kinds[owners[-1]], node.attr) if owners[-1] in kinds else None


@pytest.mark.parametrize("version", INTERFACES)
@pytest.mark.parametrize("file", FILES)
def test_attributes_exist(file: str, version: str) -> None:
    has = INTERFACES[version]
    assert [use for use in uses(file) if not use.probed and not has(use.kind, use.name)] == []


def test_probed_names_are_not_misspelt() -> None:
    """A name that no interface has would be found missing everywhere, and nobody would notice."""
    for file in FILES:
        for use in uses(file):
            assert any(has(use.kind, use.name) for has in INTERFACES.values()), use


@pytest.mark.parametrize("version", INTERFACES)
def test_names_in_tables_exist(version: str) -> None:
    has = INTERFACES[version]
    for attribute in settings.NUMBERS.values():
        assert has("IBuilderConfig", attribute), attribute
    for attribute in (
        "profiling_verbosity",
        "hardware_compatibility_level",
        "default_device_type",
        "DLA_core",
    ):
        assert has("IBuilderConfig", attribute), attribute
    for flag in (*settings.FLAGS.values(), "REFIT_IDENTICAL", "TF32"):
        assert has("BuilderFlag", flag), flag
    for verbosity in settings.VERBOSITIES.values():
        assert has("ProfilingVerbosity", verbosity), verbosity


def test_levels_of_compatibility() -> None:
    """`sameComputeCapability` came with 10.9, so it is looked for."""
    lacking = [
        (version, level)
        for version, has in INTERFACES.items()
        for level in settings.LEVELS.values()
        if not has("HardwareCompatibilityLevel", level)
    ]
    assert lacking == [("TensorRT 10.8.0.43.1", "SAME_COMPUTE_CAPABILITY")]


def test_what_tensorrt_11_has_no_more_is_noticed() -> None:
    (eleven,) = (has for version, has in INTERFACES.items() if "11." in version)
    for name in ("device_memory_size", "create_execution_context_without_device_memory", "int8_calibrator"):
        assert not eleven("", name)
        assert any(
            has(kind, name) for has in INTERFACES.values() for kind in ("ICudaEngine", "IBuilderConfig")
        )
    assert eleven("", "device_memory_size_v2")


def test_no_file_is_forgotten() -> None:
    others = [file for file in FOLDER.glob("*.py") if file.stem not in FILES]
    assert [file.name for file in others if re.search(r"(?<!pixelrt\.)\btrt\.[A-Z]", file.read_text())] == []


def test_the_walk_finds_what_it_should() -> None:
    found = {(use.kind, use.name) for file in FILES for use in uses(file)}
    assert {
        ("", "IProgressMonitor"),
        ("MemoryPoolType", "WORKSPACE"),
        ("IBuilderConfig", "set_compute_capability"),
        ("Builder", "build_serialized_network"),
        ("OnnxParser", "num_errors"),
        ("ParserError", "node_operator"),
        ("ITensor", "get_dimension_name"),
        ("ITimingCache", "combine"),
        ("ICudaEngine", "get_tensor_profile_shape"),
        ("OnnxParserRefitter", "refit_from_bytes"),
        ("IBuilderConfig", "can_run_on_DLA"),
    } <= found


def test_strong_typing_by_whatever_number_the_flag_has() -> None:
    library = pixelrt.trt.library.load_library("tensorrt_rtx")
    assert library.creation_flags() == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_importing_imports_no_tensorrt() -> None:
    heavy = "{'tensorrt_rtx', 'rich', 'numpy'}"
    code = f"import sys, pixelrt.trt, pixelrt.cli.build; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
