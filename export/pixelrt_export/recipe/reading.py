"""Reads a recipe: which task it is of, what may stand in it, and where its paths lead."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pixelrt.errors import RecipeError
from pixelrt.manifest import Task
from pixelrt.strict import SurpriseError, decode
from pixelrt_export.recipe.generation import GenerationFile, GenerationGateSection, GenerationRecipe
from pixelrt_export.recipe.sections import SOURCES, ModelSection
from pixelrt_export.recipe.segmentation import GateSection, SegmentationFile, SegmentationRecipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Gate = TypeVar("Gate", GateSection, GenerationGateSection)
AnyRecipe = SegmentationRecipe | GenerationRecipe

_NEEDED: dict[Task, tuple[tuple[str, str], ...]] = {
    "segmentation": (("model", "[model]"), ("input", "[input]"), ("head", "[[head]]")),
    "generation": (("model", "[model]"), ("output", "[output]")),
}
_STRANGERS: dict[Task, dict[str, str]] = {
    "segmentation": {
        "latent": "a network that reads frames takes no latent",
        "label": "the classes stand in [[head]]",
        "mask": "the masks are what comes out, see [[head]]; known masks go into gate.labels",
        "image": "what the network takes stands in [input]",
        "output": "what the network gives stands in [[head]]",
    },
    "generation": {
        "input": "what the network takes stands in [latent], [label], [mask] and [image]",
        "head": "what the network gives stands in [output]",
    },
}
"""Sections of the other task, and what to write instead."""
_PATHS_OF_GATE = ("images", "labels", "masks")


def read_recipe(path: Path) -> SegmentationRecipe | GenerationRecipe:
    """Read a recipe. Paths in it are relative to its own folder.

    Raises:
        RecipeError: If there is no such file, it is no TOML, a key is unknown or missing, or a value makes no
            sense; the message names the place.
    """
    text = _text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise RecipeError(f"{path} is not valid TOML: {problem}") from problem
    try:
        task = decode(_Kind, {"task": data.pop("task")} if "task" in data else {}).task
        _check_sections(data, task, path)
        if task == "generation":
            return _generation(decode(GenerationFile, data), path, text)
        return _segmentation(decode(SegmentationFile, data), path, text)
    except SurpriseError as problem:
        said = str(problem)
        for kind in (SegmentationFile, GenerationFile):
            said = said.removeprefix(f"{kind.__name__}: ")
        raise RecipeError(f"{path}: {said}") from problem


def without_gate(recipe: AnyRecipe) -> AnyRecipe:
    """The recipe with its gate skipped, whatever it says."""
    if isinstance(recipe, GenerationRecipe):
        return dataclasses.replace(recipe, gate=dataclasses.replace(recipe.gate, skip=True))
    return dataclasses.replace(recipe, gate=dataclasses.replace(recipe.gate, skip=True))


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """What decides how the rest of a recipe is read."""

    task: Literal["segmentation", "generation"] = "segmentation"


def _check_sections(data: Mapping[str, Any], task: Task, path: Path) -> None:
    """Say of sections that are missing or of the other task what is wrong, before their keys are read."""
    for section, instead in _STRANGERS[task].items():
        if section in data:
            other = "generation" if task == "segmentation" else "segmentation"
            raise RecipeError(
                f'{path} has [{section}], a section of task = "{other}", and its task is "{task}": '
                f'{instead}; or write task = "{other}" at its top'
            )
    for section, example in _NEEDED[task]:
        if section not in data:
            kind = "every recipe" if task == "segmentation" else "every recipe of a generator"
            raise RecipeError(f"{path} has no {example} section; {kind} needs one")


def _segmentation(file: SegmentationFile, path: Path, text: str) -> SegmentationRecipe:
    folder = path.resolve().parent
    return SegmentationRecipe(
        model=_model(file.model, folder),
        input=file.input,
        head=file.head,
        precision=file.precision,
        gate=_gate(file.gate, folder),
        target=file.target,
        name=_name(path),
        text=text,
        images=file.gate.images or "",
    )


def _generation(file: GenerationFile, path: Path, text: str) -> GenerationRecipe:
    folder = path.resolve().parent
    spelled = dict.fromkeys(place for place in (file.gate.masks, file.gate.images) if place is not None)
    return GenerationRecipe(
        model=_model(file.model, folder),
        output=file.output,
        latent=file.latent,
        label=file.label,
        mask=file.mask,
        image=file.image,
        precision=file.precision,
        gate=_gate(file.gate, folder),
        target=file.target,
        name=_name(path),
        text=text,
        images=", ".join(spelled),
    )


def _name(path: Path) -> str:
    return path.resolve().parent.name if path.name == "recipe.toml" else path.stem


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        hint = f"; is it {path / 'recipe.toml'}?" if (path / "recipe.toml").is_file() else "; check the path"
        raise RecipeError(f"the recipe {path} cannot be read: {problem.strerror}{hint}") from problem
    except UnicodeDecodeError as problem:
        raise RecipeError(f"{path} is no text in UTF-8, a TOML file was expected ({problem})") from problem


def _model(section: ModelSection, folder: Path) -> ModelSection:
    paths: dict[str, Any] = {
        name: _absolute(getattr(section, name), folder) for name in (*SOURCES[1:], "checkpoint")
    }
    entry = section.entry
    if entry is not None:
        module, _, name = entry.rpartition(":")
        if module.endswith(".py"):
            entry = f"{_absolute(module, folder)}:{name}"
    return dataclasses.replace(section, entry=entry, **paths)


def _gate(section: Gate, folder: Path) -> Gate:
    paths: dict[str, Any] = {
        key: _absolute(getattr(section, key), folder) for key in _PATHS_OF_GATE if hasattr(section, key)
    }
    return dataclasses.replace(section, **paths)


def _absolute(path: str | None, folder: Path) -> str | None:
    if path is None or "://" in path:
        return path
    return str((folder / Path(path).expanduser()).resolve())
