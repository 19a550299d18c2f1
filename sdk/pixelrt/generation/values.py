"""Checks of what a generator is given: latents, labels, masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError
from pixelrt.frames import UNLABELLED, foreign_ids
from pixelrt.manifest import ClassInfo, LabelInfo, MaskInfo
from pixelrt.strict import suggestion, type_of

Label = str | int
Ids = NDArray[np.int32]


def with_article(noun: str) -> str:
    """`a mask`, `an image`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def latent_array(name: str, value: object, size: tuple[int, ...]) -> NDArray[np.float32]:
    """One latent, or several, as float32.

    Args:
        name: Of the input, for messages.
        value: Numbers of the shape `size`, or of [N, *size].
        size: Of one.

    Returns:
        float32[*size] or float32[N, *size].

    Raises:
        InputError: If it has another shape, is empty, or holds something else than finite numbers.
    """
    try:
        array = np.asarray(value)
    except ValueError as problem:
        raise InputError(f"{name} is no array ({problem}), expected {_spelled(size)}") from problem
    fits = array.shape == size or (array.shape[1:] == size and len(array) > 0)
    if array.dtype.kind not in "fiu" or not fits:
        raise InputError(f"{name} is {array.dtype}{list(array.shape)}, expected {_spelled(size)}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused
        converted = array.astype(np.float32)
    if not np.logical_and.reduce(np.isfinite(converted), axis=None):  # half as long as all(), for few values
        raise InputError(
            f"{name} holds numbers that are not finite, or too large for float32; expected finite ones"
        )
    return converted


def _spelled(size: tuple[int, ...]) -> str:
    return f"float32{list(size)}, or several of them, float32[N, {', '.join(map(str, size))}]"


def label_ids(label: object, info: LabelInfo) -> Ids:
    """The ids of a label, or of several.

    Args:
        label: A name or an id, or a sequence of them.
        info: The labels that there are.

    Returns:
        int32[N], N = 1 for one.

    Raises:
        InputError: If there is no such label.
    """
    several = isinstance(label, (list, tuple)) or (isinstance(label, np.ndarray) and label.ndim == 1)
    given: Sequence[Any] = label if several else [label]  # type: ignore[assignment]
    if not len(given):
        raise InputError("no labels came, expected one or more")
    return np.array([_label_id(each, info.names) for each in given], np.int32)


def _label_id(label: object, names: tuple[str, ...]) -> int:
    if isinstance(label, np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, str):
        if label in names:
            return names.index(label)
        raise InputError(
            f"there is no label {label!r}{suggestion(label, list(names))}; there are {', '.join(names)}"
        )
    if not isinstance(label, (int, np.integer)) or isinstance(label, bool):
        raise InputError(
            f"label is {_plain(label)!r}, expected a name ({', '.join(names)}) or an id{_whole_hint(label)}"
        )
    if not 0 <= label < len(names):
        raise InputError(
            f"label is {label}, expected an id from 0 to {len(names) - 1}, or a name in quotes: "
            f"{', '.join(names)}"
        )
    return int(label)


def _plain(label: object) -> object:
    return label.item() if isinstance(label, np.generic) else label


def _whole_hint(label: object) -> str:
    whole = isinstance(label, (float, np.floating)) and float(label).is_integer()
    return f": {int(label)}, not {_plain(label)}" if whole else ""  # type: ignore[call-overload]


def check_mask(mask: object, info: MaskInfo, name: str = "") -> None:
    """Refuse what is no mask of these classes, on the host.

    Where the network takes one-hot, pixels may be unlabelled, by the id after the last class or by 255: all
    its channels are zero there.

    Args:
        mask: What came as one.
        info: What the generator takes.
        name: Of this mask, for messages.

    Raises:
        InputError: Saying what came, what was expected, and how to convert it.
    """
    what = f"the mask {name}" if name else "the mask"
    if not isinstance(mask, np.ndarray):
        raise InputError(f"{what} is {type_of(mask)}, expected a NumPy array uint8[H, W] of class ids")
    if mask.ndim != 2 or mask.dtype != np.uint8 or not mask.size:
        raise InputError(
            f"{what} is {mask.dtype}{list(mask.shape)}, expected uint8[H, W] of class ids{_mask_hint(mask)}"
        )
    _check_ids(mask, info, what)


def _mask_hint(mask: NDArray[Any]) -> str:
    if mask.ndim == 3 and mask.shape[2] == 1:
        return "; take the last axis away: mask[..., 0]"
    if mask.ndim == 3:
        return "; a coloured picture of a mask must be turned into ids first"
    if not mask.size:
        return ", at least one pixel of them"
    return "; convert with mask.astype(np.uint8)" if mask.dtype.kind in "iub" and mask.ndim == 2 else ""


def _check_ids(mask: NDArray[np.uint8], info: MaskInfo, what: str) -> None:
    names = [one.name for one in info.classes]
    count, largest = len(names), int(mask.max())
    if largest < count:
        return
    known = f"0 to {count - 1} for {', '.join(names)}"
    if largest == UNLABELLED and not ((mask > 0) & (mask < UNLABELLED)).any():
        unlabelled = f"; if {UNLABELLED} is unlabelled here, use the id {count} for it"
        raise InputError(
            f"{what} holds no ids but 0 and {UNLABELLED}, as black and white pictures do, expected "
            f"ids {known}; (mask > 127).astype(np.uint8) makes ids 0 and 1"
            f"{unlabelled if info.form == 'one_hot' else ''}"
        )
    if strangers := foreign_ids(mask, count):
        raise InputError(
            f"{what} holds the ids {', '.join(map(str, strangers))}, which are no classes here, expected "
            f"{known}{_unlabelled_too(info)}; give a mask of these classes"
        )
    if info.form == "index":
        raise InputError(
            f"{what} has unlabelled pixels ({largest}), and this network takes class ids alone, expected "
            f"{known}; fill them with one of these"
        )


def _unlabelled_too(info: MaskInfo) -> str:
    count = len(info.classes)
    return f", and {count} or {UNLABELLED} for unlabelled pixels" if info.form == "one_hot" else ""


def check_classes(found: Sequence[ClassInfo], expected: Sequence[ClassInfo]) -> None:
    """Refuse a mask whose ids mean something else.

    Raises:
        InputError: Naming the first class that differs.
    """
    here, there = [info.name for info in found], [info.name for info in expected]
    if here == there:
        return
    if sorted(here) == sorted(there):
        table = [there.index(name) for name in here]
        raise InputError(
            f"the mask's classes are {here}, the generator's are {there}: the same in another order; give it "
            f"ids in its own: np.array({table}, np.uint8)[mask]"
        )
    strange = [name for name in here if name not in there]
    lacking = [name for name in there if name not in here]
    what = f"it does not know {strange[0]!r}" if strange else f"the mask lacks {lacking}"
    raise InputError(
        f"the mask's classes are {here}, the generator's are {there}: {what}; translate the ids, and give it "
        "the array"
    )
