"""From what a generator was given to what its session takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.interop import is_on_device
from pixelrt.errors import InputError
from pixelrt.frames import check_frame, fitted, nearest, swapped
from pixelrt.generation.drawing import draw_noise
from pixelrt.generation.strategies import Drawn
from pixelrt.generation.values import check_classes, check_mask, label_ids, latent_array, with_article
from pixelrt.manifest import GenerationManifest
from pixelrt.session import Session
from pixelrt.strict import suggestion, type_of
from pixelrt.tensors import TensorSpec

Items = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Value:
    """What was given for an input."""

    items: Items
    """One per sample, or one for all; checked, not yet resized."""
    several: bool
    on_device: bool = False
    """All samples in one array on the GPU: the only item."""

    @property
    def count(self) -> int:
        """For how many samples it is."""
        if not self.on_device:
            return len(self.items)
        return int(self.items[0].shape[0]) if self.several else 1


class Inputs:
    """Knows the inputs of one generator in one session.

    Attributes:
        names: In the order of the session.
        main: The one that is given without its name.
    """

    def __init__(self, manifest: GenerationManifest, session: Session, *, swap_color: bool) -> None:
        self.manifest = manifest
        self.names = tuple(spec.name for spec in session.inputs)
        self.main = next(name for name in ("mask", "image", "latent", "label") if name in self.names)
        self._specs: dict[str, TensorSpec] = {spec.name: spec for spec in session.inputs}
        self._on_cpu = session.info.device == "cpu"
        self._swap_color = swap_color
        self._of_any_size = [
            name for name in ("mask", "image") if name in self.names and self._specs[name].fixed_size is None
        ]
        self._noise = {info.name: info for info in manifest.noise}
        self._readers: dict[str, Callable[[Any], Value]] = {
            "latent": lambda value: self._numbers("latent", value),
            "label": self._labels,
            "mask": self._masks,
            "image": self._images,
        }

    def read(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """Check what was given.

        Raises:
            InputError: If a name is unknown, or a value cannot be used.
        """
        values = {}
        for name, value in given.items():
            if name not in self.names:
                hint = suggestion(name, list(self.names))
                raise InputError(f"this generator takes no {name!r}{hint}; it takes {', '.join(self.names)}")
            values[name] = self._read(name, value)
        return values

    def _read(self, name: str, value: Any) -> Value:
        if name in ("mask", "image") and _has_mask(value):
            value = self._mask_of(name, value)
        if is_on_device(value):
            return self._device_value(name, value)
        reader = self._readers.get(name)
        return reader(value) if reader else self._numbers(name, value)

    def _numbers(self, name: str, value: Any) -> Value:
        size: tuple[int, ...] = self._specs[name].shape[1:]  # type: ignore[assignment]  # no name in it
        array = latent_array(name, value, size)
        several = array.ndim > len(size)
        return Value(array if several else array[np.newaxis], several)

    def _labels(self, value: Any) -> Value:
        assert self.manifest.label is not None
        ids = label_ids(value, self.manifest.label)
        return Value(ids, isinstance(value, (list, tuple)) or np.ndim(value) == 1)

    def _masks(self, value: Any) -> Value:
        assert self.manifest.mask is not None
        info = self.manifest.mask
        stacked = isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] not in (1, 3, 4)
        several = isinstance(value, (list, tuple)) or stacked
        masks = [self._mask_of("mask", each) if _has_mask(each) else each for each in _listed(value, several)]
        for mask in masks:
            check_mask(mask, info)
        return Value(masks, several)

    def _images(self, value: Any) -> Value:
        assert self.manifest.image is not None
        several = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 4)
        images = _listed(value, several)
        for image in images:
            check_frame(image, self.manifest.image.channels)
        return Value(images, several)

    def _mask_of(self, name: str, result: Any) -> Any:
        """The mask of a `Segmentation`."""
        if name != "mask" or self.manifest.mask is None:
            raise InputError(f"{type_of(result)} came as {name}, expected an image uint8[H, W, C]")
        check_classes(result.classes, self.manifest.mask.classes)
        found = result.mask if result.device_mask is None else result.device_mask
        if found is None:
            raise InputError(f"head {result.name!r} emits no mask; export it with 'mask' among its outputs")
        return found

    def _device_value(self, name: str, value: Any) -> Value:
        if self._on_cpu:
            raise InputError(
                f"the {name} is {type_of(value)} on a GPU, this generator runs on the CPU; copy it "
                "to the host, or load the bundle with device='cuda'"
            )
        if name == "image" and self._swap_color:
            raise InputError(
                "the image is on the GPU in another colour order than the bundle takes; reorder its channels "
                "there, and load without color"
            )
        rank, shape = len(self._specs[name].shape), tuple(getattr(value, "shape", ()))
        if len(shape) not in (rank - 1, rank):
            raise InputError(
                f"the {name} on the GPU has the shape {shape}, expected {rank - 1} axes, or "
                f"{rank} for several"
            )
        return Value([value], len(shape) == rank, on_device=True)

    def number(self, values: Mapping[str, Value], asked: int | None) -> int:
        """How many samples there will be.

        Raises:
            InputError: If the inputs do not agree with each other, or with what was asked for.
        """
        counts = {name: value.count for name, value in values.items() if value.several}
        if asked is not None:
            counts = {"count": asked, **counts}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name}: {count}" for name, count in counts.items())
            raise InputError(
                f"the inputs are for different numbers of images ({told}); give each as many, or one for all"
            )
        found = next(iter(counts.values()), 1)
        for name, value in values.items():
            if value.on_device and value.count != found:
                raise InputError(
                    f"the {name} is one array on the GPU, {found} images were asked for; generate "
                    "one at a time"
                )
        return found

    def complete(self, values: Mapping[str, Value], drawn: Drawn) -> dict[str, Items | Value]:
        """What was given and drawn, one item per sample and input, as the session takes it.

        Raises:
            InputError: If an input is missing.
        """
        count = len(drawn.noise_indices)
        return {
            name: self._fit(name, values[name], count) if name in values else self._drawn(name, drawn)
            for name in self.names
        }

    def _drawn(self, name: str, drawn: Drawn) -> NDArray[Any]:
        if name in self._noise:
            return draw_noise(self._noise[name], drawn.seed, drawn.noise_indices)
        found: NDArray[Any] | None = {"latent": drawn.latents, "label": drawn.labels}.get(name)
        if found is None:
            names = self.manifest.label.names if self.manifest.label else ()
            example = {"label": f"label={names[0]!r}" if names else "", "latent": "latent=z"}.get(
                name, f"{name}=array"
            )
            raise InputError(f"this generator takes {with_article(name)}, none came; give it {example}")
        return found

    def _fit(self, name: str, value: Value, count: int) -> Items | Value:
        if value.on_device:
            return value
        spec, items = self._specs[name], value.items
        if name == "mask":
            items = [nearest(mask, *(spec.fixed_size or mask.shape)) for mask in items]
        elif name == "image":
            items = [fitted(image, spec.fixed_size) for image in items]
            items = [swapped(image) for image in items] if self._swap_color else items
        if len(items) == count:
            return items
        return np.repeat(items, count, axis=0) if isinstance(items, np.ndarray) else [items[0]] * count

    def parts(self, complete: Mapping[str, Items | Value], count: int, largest: int) -> list[range]:
        """Samples that can go through the network together: of one size, and not too many."""
        sized = [items for name in self._of_any_size if not isinstance(items := complete[name], Value)]
        if not sized:
            parts = [range(start, min(start + largest, count)) for start in range(0, count, largest)]
        else:
            parts = _of_one_size([[items[index].shape for items in sized] for index in range(count)], largest)
        if len(parts) > 1 and any(isinstance(items, Value) for items in complete.values()):
            raise InputError(
                f"{count} images on the GPU came at once, this network takes at most {largest}; give it fewer"
            )
        return parts

    def feeds(self, complete: Mapping[str, Items | Value], part: range) -> dict[str, Any]:
        """What the session takes for some samples."""
        return {name: self._feed(items, part) for name, items in complete.items()}

    def _feed(self, items: Items | Value, part: range) -> Any:
        if isinstance(items, Value):
            return items.items[0]
        chosen = items[part.start : part.stop]
        if isinstance(chosen, np.ndarray):
            return chosen
        if len(chosen) == 1:
            return chosen[0][np.newaxis]
        return np.stack(chosen) if self._on_cpu else tuple(chosen)


def _of_one_size(sizes: Sequence[object], largest: int) -> list[range]:
    """Neighbours of the same size, at most so many together."""
    parts: list[range] = []
    for index, size in enumerate(sizes):
        if parts and len(parts[-1]) < largest and sizes[parts[-1].start] == size:
            parts[-1] = range(parts[-1].start, index + 1)
        else:
            parts.append(range(index, index + 1))
    return parts


def _has_mask(value: object) -> bool:
    """Whether it is a `Segmentation`, or one of another process; this layer knows none of them."""
    return hasattr(value, "classes") and hasattr(value, "mask") and hasattr(value, "device_mask")


def _listed(value: Any, several: bool) -> list[Any]:
    items = list(value) if several else [value]
    if not items:
        raise InputError("nothing came, expected one or more")
    return items
