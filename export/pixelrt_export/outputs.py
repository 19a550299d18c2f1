"""Finds the tensors in what a network returns: tuples, lists, dicts, dataclasses, in any nesting."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from pixelrt.errors import ExportError
from pixelrt.manifest import Task
from pixelrt.strict import suggestion, type_of

Step = int | str
"""An index, key or attribute."""
CHANNELS = (1, 3)
"""Channels that a generated image may have."""


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """Which output of a network a head is made of."""

    name: str
    """Name of the head; the ONNX output is called `head_<name>`."""
    output: Step | None = None
    """Index, key or attribute, dotted where outputs are nested (`decoder.0`); None: the only one there is."""


@dataclass(frozen=True, slots=True)
class _Words:
    """How messages speak of an output."""

    shape: str
    section: str
    none_advice: str = ""

    def who(self, head: HeadOutput) -> str:
        return "[output]" if self.section == "[output]" else f"head {head.name!r}"


_WORDS: dict[Task, _Words] = {
    "segmentation": _Words("[batch, classes, height, width]", "[[head]]"),
    "generation": _Words(
        "[batch, 1 or 3, height, width]",
        "[output]",
        "; give it that shape in forward(), as in: image.reshape(image.shape[0], 3, height, width)",
    ),
}


def pick(outputs: object, head: HeadOutput, task: Task = "segmentation") -> Tensor:
    """The tensor float[batch, classes, height, width] of a head, or float[batch, 1 or 3, height, width].

    Args:
        outputs: What the network returned.
        head: `output` 0 of a network that returns a bare tensor is the tensor itself.
        task: `generation` if the tensor is an image.

    Raises:
        ExportError: If there is no such output, it is no such tensor, or it was not named and there are
            several; the message lists what the network returned, and what to write in the recipe.
    """
    words = _WORDS[task]
    tensor = _chosen(outputs, head, words)
    if task == "generation" and tensor.shape[1] not in CHANNELS:
        raise ExportError(
            f"the generator's output has {tensor.shape[1]} channels ({_form(tensor)}), an image of 1 (grey) "
            f"or 3 (RGB) channels was expected; {channels_advice(int(tensor.shape[1]))}"
        )
    return tensor


def channels_advice(channels: int) -> str:
    """What to do about a generator with as many output channels."""
    if channels == 2:
        return "return one of them from forward(), or add a third of zeros"
    if channels == 4:
        return "if the fourth is opacity, return image[:, :3] from forward()"
    return "convert them to an image in forward(), or name another output in [output]"


def _chosen(outputs: object, head: HeadOutput, words: _Words) -> Tensor:
    if head.output is None:
        found = [(path, tensor) for path, tensor in tensors(outputs) if is_map(tensor)]
        if len(found) != 1:
            raise ExportError(_choose(outputs, words.who(head), words, len(found)))
        return found[0][1]
    value = _follow(outputs, head.output)
    if isinstance(value, Tensor) and is_map(value):
        return value
    if value is None:
        known = [_spell(path) for path, _ in tensors(outputs)]
        raise ExportError(
            f"{words.who(head)} asks for output {head.output!r}{suggestion(str(head.output), known)}, "
            f"and the network returned {describe(outputs)}"
        )
    raise ExportError(
        f"{words.who(head)} asks for output {head.output!r}, which is {describe(value)}; one float tensor "
        f"{words.shape} was expected. The network returned {describe(outputs)}"
    )


def locate(outputs: object, head: HeadOutput, task: Task = "segmentation") -> tuple[Step, ...]:
    """The way from what the network returned to the tensor of a head.

    Raises:
        ExportError: As `pick`.
    """
    wanted = pick(outputs, head, task)
    return next(path for path, tensor in tensors(outputs) if tensor is wanted)


def is_map(tensor: Tensor) -> bool:
    """Whether a tensor can be a head: floats, [batch, classes, height, width]."""
    return tensor.ndim == 4 and tensor.is_floating_point()


def tensors(outputs: object, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Tensor]]:
    """All tensors in what a network returned, with the way to each."""
    if isinstance(outputs, Tensor):
        yield path, outputs
    for step, value in _children(outputs):
        yield from tensors(value, (*path, step))


def describe(outputs: object) -> str:
    """What a network returned in words: each output with its index or key, type and shape."""
    if isinstance(outputs, Tensor):
        return f"one {_form(outputs)}"
    found = [f"{_quoted(path)}: {_form(tensor)}" for path, tensor in tensors(outputs)]
    return f"{type_of(outputs)} with {'; '.join(found) or 'no tensors'}"


def _choose(outputs: object, who: str, words: _Words, num_maps: int) -> str:
    if not num_maps:
        return (
            f"the network returned {describe(outputs)}; a float tensor {words.shape} was expected for {who}"
            f"{words.none_advice}"
        )
    path = next(path for path, tensor in tensors(outputs) if is_map(tensor))
    return (
        f"{who} does not say which output it is made of, and the network returned {describe(outputs)}; write "
        f"one of them in {words.section}, as in: output = {_quoted(path)}"
    )


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(map(int, tensor.shape))}"


def _spell(path: tuple[Step, ...]) -> str:
    return ".".join(map(str, path))


def _quoted(path: tuple[Step, ...]) -> str:
    """An output as a recipe writes it."""
    if not path:
        return "0"
    return str(path[0]) if len(path) == 1 and isinstance(path[0], int) else f'"{_spell(path)}"'


def _children(outputs: object) -> list[tuple[Step, object]]:
    if isinstance(outputs, Mapping):
        return [(key if isinstance(key, int) else str(key), value) for key, value in outputs.items()]
    if isinstance(outputs, (list, tuple)):
        names = getattr(outputs, "_fields", range(len(outputs)))
        return list(zip(names, outputs, strict=True))
    if dataclasses.is_dataclass(outputs):
        return [(field.name, getattr(outputs, field.name)) for field in dataclasses.fields(outputs)]
    return []


def _follow(outputs: object, step: Step) -> object:
    """What an index, a key, an attribute or a dotted path of them leads to; None where it leads nowhere."""
    if isinstance(step, int):
        return _at(outputs, step)
    if (value := _named(outputs, step)) is not None:
        return value
    value = outputs
    for part in step.split("."):
        value = _at(value, int(part)) if part.isdecimal() else _named(value, part)
        if value is None:
            return None
    return value


def _at(outputs: object, index: int) -> object:
    if isinstance(outputs, Tensor):
        return outputs if index == 0 else None
    if isinstance(outputs, Mapping) and index in outputs:
        return outputs[index]
    values = outputs if isinstance(outputs, Sequence) else [value for _, value in _children(outputs)]
    return values[index] if -len(values) <= index < len(values) else None


def _named(outputs: object, name: str) -> object:
    if isinstance(outputs, Mapping):
        return outputs.get(name)
    if isinstance(outputs, (Tensor, str)):
        return None
    children = {str(key): value for key, value in _children(outputs)}
    return children.get(name, getattr(outputs, name, None))
