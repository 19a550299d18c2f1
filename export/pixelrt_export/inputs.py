"""What a network takes: named inputs, and the parameters of forward() that they are for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pixelrt.errors import ExportError
from pixelrt.manifest import Task
from pixelrt.strict import suggestion
from pixelrt_export.outputs import HeadOutput

OPSET = 20
"""Operator set of the ONNX: the newest that TensorRT 10.3 reads whole."""
LATENT, LABEL, MASK, IMAGE = "latent", "label", "mask", "image"
ORDER = (LATENT, LABEL, MASK, IMAGE)
"""Order of the inputs in the graph, and in which they take the parameters of forward() that are left."""
SPATIAL = (MASK, IMAGE)
"""Inputs whose size ends in height and width, of what people call the size of the network's input."""

InputType = Literal["float32", "int64"]
DTYPES: dict[InputType, torch.dtype] = {"float32": torch.float32, "int64": torch.int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInput:
    """One input of a network."""

    name: str
    """In the graph: `latent`, `label`, `mask`, `image` or `noise_<k>`."""
    size: tuple[int, ...]
    """Without the batch, which comes first: () for the ids of labels."""
    dtype: InputType = "float32"
    parameter: int | str | None = None
    """Position or name of forward()'s parameter; None: the next that is free."""
    range: tuple[float, float] = (0.0, 1.0)
    """Least value and the end of the range (excluded) for a try-out: (0, K) for ids of K classes."""
    one_hot: bool = False
    """Whether the first axis of `size` is that of classes, of which one is 1 and the others are 0: other
    values may drive a network to where rounding alone changes the image."""

    def __post_init__(self) -> None:
        if self.range[0] >= self.range[1]:
            raise ValueError(
                f"{self.name}: range is {list(self.range)}; a smaller and a larger number were expected"
            )

    @property
    def text(self) -> str:
        """As messages write it: `latent float32[1, 64]`."""
        return f"{self.name} {self.dtype}{[1, *self.size]}"

    def two(self, generator: torch.Generator) -> Tensor:
        """Two samples for a try-out, [2, *size]: the second is the first, mirrored in the range."""
        low, high = self.range
        if self.one_hot:
            classes, *size = self.size
            return functional.one_hot(_two_of_ids(0, classes, size), classes).movedim(-1, 1).float()
        if self.dtype == "int64":
            return _two_of_ids(round(low), round(high), self.size)
        first = low + (high - low) * torch.rand(1, *self.size, generator=generator)
        return torch.cat([first, low + high - first])

    def zeros(self, batch: int) -> Tensor:
        """An example of the right shape and type."""
        return torch.zeros(batch, *self.size, dtype=DTYPES[self.dtype])


def _two_of_ids(low: int, high: int, size: Sequence[int]) -> Tensor:
    """Ids from low to high (excluded) in turns, and the same mirrored, int64[2, *size]."""
    first = (low + torch.arange(torch.Size(size).numel()) % (high - low)).reshape(1, *size)
    return torch.cat([first, low + high - 1 - first])


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """What to export of a network."""

    inputs: tuple[NetworkInput, ...]
    """Without noise, which the network itself shows."""
    heads: tuple[HeadOutput, ...]
    max_batch: int = 4
    """Largest batch that will be used. With 1, the batch is fixed, which some networks demand."""
    opset: int = OPSET
    task: Task = "generation"
    """A generator has one head, an image; its randomness becomes inputs, where segmentation has none."""

    def __post_init__(self) -> None:
        names = [one.name for one in self.inputs]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the inputs are {names}; one or more, each with its own name, were expected")

    @classmethod
    def of_image(
        cls, size: tuple[int, int], channels: int, heads: tuple[HeadOutput, ...], max_batch: int = 4
    ) -> NetworkSpec:
        """What to export of a segmentation network, which takes one image.

        Args:
            size: Height and width of the input.
            channels: Of the input.
            heads: Which outputs are wanted.
            max_batch: Largest batch that will be used.
        """
        image = NetworkInput(name=IMAGE, size=(channels, *size), parameter=0)
        return cls(inputs=(image,), heads=heads, max_batch=max_batch, task="segmentation")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the image and the mask; None where there is none, or they differ."""
        sizes = {one.size[-2:] for one in self.inputs if one.name in SPATIAL}
        height, width = sizes.pop() if len(sizes) == 1 else (0, 0)
        return (height, width) if height else None


def batch_option(task: Task, batch: int = 1) -> str:
    """How a largest batch is asked for, in a recipe and in Python."""
    if task == "segmentation":
        return f"batch = {batch} in [input] (in Python batch={batch})"
    return f'batch = {batch} in [output] (in Python output={{"range": ..., "batch": {batch}}})'


# --- the parameters of forward() ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of forward()."""

    name: str
    required: bool = True
    kind: Literal["positional", "either", "keyword"] = "either"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a network accepts."""

    listed: tuple[Parameter, ...]
    text: str
    """As messages write it: `Net.forward(z, label=None)`."""
    more_positions: bool = False
    more_names: bool = False

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> Parameters:
        """Those of a Python function or bound method; any, where it does not tell."""
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError):
            return cls((), f"{name}(...)", more_positions=True, more_names=True)
        kinds = inspect.Parameter
        words: dict[Any, Literal["positional", "either", "keyword"]] = {
            kinds.POSITIONAL_ONLY: "positional",
            kinds.POSITIONAL_OR_KEYWORD: "either",
            kinds.KEYWORD_ONLY: "keyword",
        }
        every = signature.parameters.values()
        bare = [one.replace(annotation=one.empty) for one in every]
        return cls(
            tuple(
                Parameter(one.name, one.default is one.empty, words[one.kind])
                for one in every
                if one.kind in words
            ),
            f"{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}",
            more_positions=any(one.kind == kinds.VAR_POSITIONAL for one in every),
            more_names=any(one.kind == kinds.VAR_KEYWORD for one in every),
        )


@dataclass(frozen=True, slots=True)
class Call:
    """Which input goes to which parameter."""

    positional: tuple[str, ...] = ()
    """Names of inputs."""
    keywords: dict[str, str] = field(default_factory=dict)
    """From the name of a parameter to the name of its input."""

    def __call__(self, network: Callable[..., Any], values: Mapping[str, Tensor]) -> Any:
        """Call a network with the values of its inputs."""
        return network(
            *(values[name] for name in self.positional),
            **{parameter: values[name] for parameter, name in self.keywords.items()},
        )


def bind(inputs: Sequence[NetworkInput], parameters: Parameters) -> Call:
    """Find the parameter of each input.

    Raises:
        ExportError: If a parameter does not exist or is given twice, none is left for an input, or a
            required one is fed by nothing; the message shows what the network accepts.
    """
    places: dict[int | str, str] = {}
    for one in inputs:
        if one.parameter is not None:
            place = _place(one, parameters)
            if place in places:
                raise ExportError(
                    f"the inputs {places[place]!r} and {one.name!r} are both for the parameter "
                    f"{one.parameter!r} of {parameters.text}; give each its own"
                )
            places[place] = one.name
    for one in inputs:
        if one.parameter is None:
            places[_free(one, parameters, places)] = one.name
    _check_required(parameters, places)
    return _call(parameters, places)


def _place(one: NetworkInput, parameters: Parameters) -> int | str:
    names = [parameter.name for parameter in parameters.listed]
    wanted = one.parameter
    if isinstance(wanted, str):
        if wanted in names:
            return names.index(wanted)
        if parameters.more_names:
            return wanted
        hint = suggestion(wanted, names)
    else:
        assert wanted is not None
        if 0 <= wanted < len(names) or (parameters.more_positions and wanted >= 0):
            return wanted
        hint = f": positions from 0 to {len(names) - 1} were expected"
    raise ExportError(
        f"the input {one.name!r} is for the parameter {wanted!r}, which is not there{hint}; the network "
        f"accepts {parameters.text}"
    )


def _free(one: NetworkInput, parameters: Parameters, places: Mapping[int | str, str]) -> int:
    place = next(index for index in range(len(places) + 1) if index not in places)
    if place >= len(parameters.listed) and not parameters.more_positions:
        raise ExportError(
            f"there is no parameter left for the input {one.name!r}; the network accepts {parameters.text}. "
            f"Leave [{one.name}] out, or say which parameter each input is for (input = ...)"
        )
    return place


def _check_required(parameters: Parameters, places: Mapping[int | str, str]) -> None:
    missing = [
        one.name for index, one in enumerate(parameters.listed) if one.required and index not in places
    ]
    if missing:
        fed = ", ".join(
            f"{name!r} goes to {place if isinstance(place, str) else _spelled(place, parameters)!r}"
            for place, name in places.items()
        )
        raise ExportError(
            f"{parameters.text} needs {', '.join(map(repr, missing))}, and nothing feeds "
            f"{'it' if len(missing) == 1 else 'them'}: {fed}. Give an input for each parameter, or a default "
            "in forward(); input = ... in an input says which parameter it is for"
        )


def _spelled(place: int, parameters: Parameters) -> str | int:
    return parameters.listed[place].name if place < len(parameters.listed) else place


def _call(parameters: Parameters, places: Mapping[int | str, str]) -> Call:
    positional: list[str] = []
    keywords: dict[str, str] = {}
    indices = sorted(index for index in places if isinstance(index, int))
    for index in indices:
        known = (
            parameters.listed[index] if index < len(parameters.listed) else Parameter("", kind="positional")
        )
        if index == len(positional) and known.kind != "keyword":
            positional.append(places[index])
        elif known.kind != "positional":
            keywords[known.name] = places[index]
        else:
            raise ExportError(
                f"the input {places[index]!r} is for position {index} of {parameters.text}, and nothing "
                "feeds the positions before it; inputs without gaps were expected"
            )
    keywords.update({name: places[name] for name in places if isinstance(name, str)})
    return Call(tuple(positional), keywords)


# --- what a saved network was made for ------------------------------------------------------------


def check_type(one: NetworkInput, found: str, name: str) -> None:
    """Compare an input's type with the one that a saved network takes.

    Raises:
        ExportError: If they differ.
    """
    if found == one.dtype:
        return
    if one.dtype == "float32":
        raise ExportError(
            f"{name} takes {found} for the input {one.name!r}, float32 was expected; export it in FP32 "
            "(before .half() or .bfloat16()) and without its own preprocessing"
        )
    raise ExportError(
        f'{name} takes {found} for the input {one.name!r}, int64 was expected; or set form = "one_hot"'
    )


def check_size(one: NetworkInput, found: Sequence[int | None], name: str) -> None:
    """Compare an input's size with the one that a saved network was made for.

    Args:
        one: What is wanted.
        found: Sizes without the batch, None where any is accepted.
        name: What to call the network in messages.

    Raises:
        ExportError: If a size is fixed to something else.
    """
    if len(found) == len(one.size) and all(
        size in (None, wanted) for size, wanted in zip(found, one.size, strict=True)
    ):
        return
    if one.name == IMAGE and len(found) == 3:
        channels, height, width = found
        if channels not in (None, one.size[0]):
            raise ExportError(
                f"{name} takes {channels} channels, and mean and std are given for {one.size[0]}; give one "
                "value of each per channel"
            )
        fitting = [height or one.size[1], width or one.size[2]]
        raise ExportError(
            f"{name} was exported for {height or 'any'}x{width or 'any'} (H x W), and "
            f"{one.size[1]}x{one.size[2]} is wanted; set size = {fitting}, or export it again"
        )
    shape = ", ".join("any" if size is None else str(size) for size in ("batch", *found))
    raise ExportError(
        f"{name} takes [{shape}] for the input {one.name!r}, and "
        f"[batch{''.join(f', {size}' for size in one.size)}] is wanted; check [{one.name}], or export it "
        "again"
    )
