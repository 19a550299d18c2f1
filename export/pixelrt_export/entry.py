"""The entry point of a recipe: `module:callable`, imported and called."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from pixelrt.errors import RecipeError
from pixelrt.strict import suggestion, type_of
from pixelrt_export.quiet import essential


def build_module(entry: str, args: Mapping[str, Any]) -> nn.Module:
    """Import an entry point and call it.

    `my_package.nets:UNet` is imported as Python does it: the package must be installed or on PYTHONPATH.
    `my_model.py:UNet` is a file, and while it is imported and called its folder is where Python looks first,
    as with `python my_model.py`.

    Args:
        entry: Module or file, a colon, and the name of a class or function (dotted for one inside a class).
        args: Keyword arguments for it.

    Raises:
        RecipeError: If there is no such module or name, it does not accept the arguments, or it returns
            something else than a module.
    """
    source, _, name = entry.rpartition(":")
    with _beside(Path(source).parent if source.endswith(".py") else None):
        module = _from_file(Path(source)) if source.endswith(".py") else _imported(source, entry)
        factory = _attribute(module, name, entry)
        _check_args(factory, args, entry)
        try:
            network = factory(**args)
        except Exception as problem:
            raise RecipeError(
                f"entry {entry!r} failed with args {dict(args)}: {essential(problem)}; check [model] args"
            ) from problem
    if not isinstance(network, nn.Module):
        raise RecipeError(
            f"entry {entry!r} returned {type_of(network)}, a torch.nn.Module was expected; "
            "name a class or a function that builds one"
        )
    return network


@contextmanager
def _beside(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _imported(name: str, entry: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name is None or not f"{name}.".startswith(f"{problem.name}."):
            raise RecipeError(
                f"entry {entry!r}: {name} needs the module {problem.name!r}, which is not installed"
            ) from problem
        raise RecipeError(
            f"entry {entry!r}: there is no module {problem.name!r}{_close_module(problem.name)}; install its "
            f"package, or name the file, relative to the recipe: {problem.name.rpartition('.')[2]}.py:..."
        ) from problem
    except Exception as problem:
        raise RecipeError(f"entry {entry!r}: importing {name} failed: {essential(problem)}") from problem


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = suggestion(path.name, [found.name for found in path.parent.glob("*.py")])
        raise RecipeError(f"entry: there is no file {path}{near}; the path is relative to the recipe")
    # a name of its own, because user's files are called model.py or train.py
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[name]
        raise RecipeError(f"entry: importing {path} failed: {essential(problem)}") from problem
    return module


def _attribute(module: ModuleType, name: str, entry: str) -> Callable[..., object]:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [public for public in dir(value) if not public.startswith("_")]
            raise RecipeError(
                f"entry {entry!r}: {getattr(value, '__name__', value)} has no {part!r}{_near(part, known)}"
            )
        value = getattr(value, part)
    if not callable(value):
        known = [public for public in dir(module) if callable(getattr(module, public))]
        raise RecipeError(
            f"entry {entry!r} is {type_of(value)}, a class or function that returns a "
            f"torch.nn.Module was expected{_near(name, known)}"
        )
    return value  # type: ignore[no-any-return]


def _check_args(factory: Callable[..., object], args: Mapping[str, Any], entry: str) -> None:
    try:
        signature = inspect.signature(factory)
    except (ValueError, TypeError):
        return  # written in C: only the call can tell
    try:
        signature.bind(**args)
    except TypeError as problem:
        unknown = [name for name in args if name not in signature.parameters]
        hint = suggestion(unknown[0], list(signature.parameters)) if unknown else ""
        raise RecipeError(
            f"entry {entry!r} does not take args {dict(args)}: {problem}{hint}; it accepts {signature}"
        ) from problem


def _close_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    if not parent or parent not in sys.modules:
        return ""
    folders = getattr(sys.modules[parent], "__path__", [])
    return suggestion(last, [path.stem for folder in folders for path in Path(folder).iterdir()])


def _near(word: str, known: list[str]) -> str:
    """What is spelled alike, capitals aside."""
    folded = {name.lower(): name for name in known}
    hint = suggestion(word.lower(), list(folded))
    for low, name in folded.items():
        hint = hint.replace(repr(low), repr(name))
    return hint or f"; it has {', '.join(known[:12])}"
