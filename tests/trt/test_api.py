"""Every attribute of TensorRT that the code touches is there, or is looked for before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import tensorrt_rtx as trt

import pixelrt.trt

FILES = ("library", "targets", "network", "builder", "worker")
KINDS = {
    "builder": trt.Builder,
    "network": trt.INetworkDefinition,
    "parser": trt.OnnxParser,
    "config": trt.IBuilderConfig,
    "profile": trt.IOptimizationProfile,
    "error": trt.ParserError,
    "plan": trt.IHostMemory,
    "tensor": trt.ITensor,
}
"""What the code calls TensorRT's objects."""


def touched(file: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Paths below the module (`BuilderFlag.FP16`), and attributes of its objects."""
    module: list[str] = []
    objects: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute):
            path = ast.unparse(node).split(".")
            if path[0] == "library":
                path = path[1:]
            if path[0] == "trt" and len(path) > 1 and path[1].isidentifier():
                module.append(".".join(path[1:]))
            owner = ast.unparse(node.value).split(".")[-1]
            if owner in KINDS:
                objects.append((owner, node.attr))
    return module, objects


@pytest.mark.parametrize("name", FILES)
def test_attributes_exist(name: str) -> None:
    file = Path(pixelrt.trt.__file__).with_name(f"{name}.py")
    module, objects = touched(file)
    for path in module:
        found: object = trt
        for part in path.split("."):
            if part in ("items", "__members__", "FP16"):
                break
            assert hasattr(found, part), f"{file.name} uses trt.{path}"
            found = getattr(found, part)
    for owner, attribute in objects:
        assert hasattr(KINDS[owner], attribute), f"{file.name} uses {owner}.{attribute}"


def test_the_walk_finds_what_it_should() -> None:
    folder = Path(pixelrt.trt.__file__).parent
    module, objects = touched(folder / "builder.py")
    assert "MemoryPoolType.WORKSPACE" in module
    assert "IProgressMonitor" in module
    assert ("config", "set_compute_capability") in objects
    assert ("builder", "build_serialized_network") in objects
    module, objects = touched(folder / "network.py")
    assert {"Builder", "OnnxParser", "init_libnvinfer_plugins"} <= set(module)
    assert {("parser", "get_error"), ("error", "node_operator"), ("tensor", "get_dimension_name")} <= set(
        objects
    )


def test_strong_typing_by_whatever_number_the_flag_has() -> None:
    library = pixelrt.trt.library.load_library("tensorrt_rtx")
    assert library.creation_flags() == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_importing_imports_no_tensorrt() -> None:
    heavy = "{'tensorrt_rtx', 'rich', 'numpy'}"
    code = f"import sys, pixelrt.trt, pixelrt.cli.build; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
