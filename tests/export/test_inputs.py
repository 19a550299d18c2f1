"""Named inputs: the parameter of forward() of each, try-outs, and what a saved network was made for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pixelrt.errors import ExportError
from pixelrt_export.inputs import (
    NetworkInput,
    NetworkSpec,
    Parameter,
    Parameters,
    bind,
    check_size,
    check_type,
)
from pixelrt_export.outputs import HeadOutput

HEADS = (HeadOutput("generated"),)


def given(name: str, parameter: int | str | None = None) -> NetworkInput:
    return NetworkInput(name=name, size=(4,), parameter=parameter)


def two(z: Any, c: Any) -> Any:
    return {"z": z, "c": c}


def default_between(z: Any, scale: Any = 2, c: Any = None) -> Any:
    return {"z": z, "scale": scale, "c": c}


def keyword_only(z: Any, *, c: Any) -> Any:
    return {"z": z, "c": c}


def positional_only(z: Any, c: Any, /) -> Any:
    return {"z": z, "c": c}


def anything(*values: Any, **named: Any) -> Any:
    return {**dict(enumerate(values)), **named}


FED: list[tuple[Callable[..., Any], dict[str, int | str | None], dict[Any, Any]]] = [
    (two, {"latent": None, "label": None}, {"z": "latent", "c": "label"}),
    (two, {"latent": "c", "label": None}, {"z": "label", "c": "latent"}),
    (two, {"latent": 1, "label": "z"}, {"z": "label", "c": "latent"}),
    (default_between, {"latent": None}, {"z": "latent", "scale": 2, "c": None}),
    (default_between, {"latent": None, "label": "c"}, {"z": "latent", "scale": 2, "c": "label"}),
    (default_between, {"latent": 0, "label": 2}, {"z": "latent", "scale": 2, "c": "label"}),
    (default_between, {"latent": None, "label": None}, {"z": "latent", "scale": "label", "c": None}),
    (keyword_only, {"latent": None, "label": None}, {"z": "latent", "c": "label"}),
    (keyword_only, {"latent": "c", "label": "z"}, {"z": "label", "c": "latent"}),
    (positional_only, {"latent": None, "label": None}, {"z": "latent", "c": "label"}),
    (positional_only, {"latent": "c", "label": "z"}, {"z": "label", "c": "latent"}),
    (anything, {"latent": None, "label": None}, {0: "latent", 1: "label"}),
    (anything, {"latent": "x", "label": None}, {0: "label", "x": "latent"}),
]


@pytest.mark.parametrize(("function", "inputs", "expected"), FED)
def test_each_input_goes_to_its_parameter(
    function: Callable[..., Any], inputs: dict[str, int | str | None], expected: dict[Any, Any]
) -> None:
    wanted = [given(name, parameter) for name, parameter in inputs.items()]
    call = bind(wanted, Parameters.of(function, "forward"))
    values: Any = {name: name for name in inputs}
    assert call(function, values) == expected


REFUSED: list[tuple[Callable[..., Any], dict[str, int | str | None], str]] = [
    (
        two,
        {"latent": "z", "label": 0},
        r"'latent' and 'label' are both for the parameter 0 of net\(z, c\); give each its own",
    ),
    (
        two,
        {"latent": "zz"},
        r"parameter 'zz', which is not there \(did you mean 'z'\?\); .* accepts net\(z, c\)",
    ),
    (two, {"latent": 2}, r"parameter 2, which is not there: positions from 0 to 1 were expected"),
    (two, {"latent": -1}, r"parameter -1, which is not there: positions from 0 to 1 were expected"),
    (two, {"latent": None}, r"net\(z, c\) needs 'c', and nothing feeds it: 'latent' goes to 'z'\. Give"),
    (two, {"label": None}, r"needs 'c', and nothing feeds it: 'label' goes to 'z'\. Give an input for each"),
    (two, {"label": "c"}, r"needs 'z', and nothing feeds it: 'label' goes to 'c'"),
    (keyword_only, {"latent": None}, r"net\(z, \*, c\) needs 'c', and nothing feeds it"),
    (lambda z, c, d: z, {"latent": None}, r"needs 'c', 'd', and nothing feeds them"),
    (
        lambda z: z,
        {"latent": None, "label": None},
        r"no parameter left for the input 'label'; the network accepts net\(z\). Leave \[label\] out",
    ),
    (anything, {"latent": 1}, r"'latent' is for position 1 of .*, and nothing feeds the positions before it"),
]


@pytest.mark.parametrize(("function", "inputs", "message"), REFUSED)
def test_inputs_that_do_not_fit_are_explained(
    function: Callable[..., Any], inputs: dict[str, int | str | None], message: str
) -> None:
    wanted = [given(name, parameter) for name, parameter in inputs.items()]
    with pytest.raises(ExportError, match=message):
        bind(wanted, Parameters.of(function, "net"))


def test_functions_that_do_not_tell_take_anything() -> None:
    parameters = Parameters.of(torch.add, "add")
    assert parameters.more_positions
    assert bind([given("latent"), given("image")], parameters).positional == ("latent", "image")


def test_parameters_tell_names_kinds_and_defaults() -> None:
    parameters = Parameters.of(keyword_only, "net")
    assert parameters.listed == (Parameter("z"), Parameter("c", kind="keyword"))
    assert parameters.text == "net(z, *, c)"
    assert Parameters.of(default_between, "net").text == "net(z, scale=2, c=None)"


# --- try-outs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_ids_reach_the_first_and_the_last_class(classes: int) -> None:
    label = NetworkInput(name="label", size=(), dtype="int64", range=(0, classes))
    assert sorted(label.two(torch.Generator()).tolist()) == [0, classes - 1]
    mask = NetworkInput(name="mask", size=(4, 6), dtype="int64", range=(0, classes))
    found = mask.two(torch.Generator())
    assert found.shape == (2, 4, 6)
    assert found.unique().tolist() == list(range(classes))


def test_one_hot_samples_are_one_hot() -> None:
    mask = NetworkInput(name="mask", size=(5, 4, 6), one_hot=True)
    found = mask.two(torch.Generator())
    assert (found.shape, found.dtype) == ((2, 5, 4, 6), torch.float32)
    assert found.unique().tolist() == [0, 1]
    assert (found.sum(1) == 1).all()
    assert not torch.equal(found[0], found[1])


def test_two_different_samples_stay_in_their_range() -> None:
    latent = NetworkInput(name="latent", size=(64,), range=(-2, 2))
    first, second = latent.two(torch.Generator().manual_seed(0))
    assert torch.allclose(first, -second)
    assert first.abs().max() <= 2
    assert first.std() > 0.5


def test_inputs_and_specs_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"latent: range is \[1, 1\]; a smaller and a larger number"):
        NetworkInput(name="latent", size=(4,), range=(1, 1))
    with pytest.raises(
        ValueError, match=r"the inputs are \['latent', 'latent'\]; one or more, each with its own"
    ):
        NetworkSpec(inputs=(given("latent"), given("latent")), heads=HEADS)
    with pytest.raises(ValueError, match=r"the inputs are \[\]"):
        NetworkSpec(inputs=(), heads=HEADS)


def test_the_size_of_a_spec_is_that_of_its_pixels() -> None:
    latent = given("latent")
    mask = NetworkInput(name="mask", size=(5, 4, 6))
    image = NetworkInput(name="image", size=(3, 8, 6))
    assert NetworkSpec(inputs=(latent,), heads=HEADS).size is None
    assert NetworkSpec(inputs=(latent, mask), heads=HEADS).size == (4, 6)
    assert NetworkSpec(inputs=(mask, image), heads=HEADS).size is None


# --- what a saved network was made for ------------------------------------------------------------------


def test_types_of_saved_networks() -> None:
    check_type(given("latent"), "float32", "net.pt2")
    with pytest.raises(
        ExportError, match=r"net.pt2 takes bfloat16 for the input 'latent', float32 was expected"
    ):
        check_type(given("latent"), "bfloat16", "net.pt2")
    label = NetworkInput(name="label", size=(), dtype="int64", range=(0, 4))
    with pytest.raises(
        ExportError, match=r"net.pt2 takes float32 for .*'label', int64 was expected; .*one_hot"
    ):
        check_type(label, "float32", "net.pt2")


def test_sizes_of_saved_networks() -> None:
    image = NetworkInput(name="image", size=(3, 32, 48))
    check_size(image, (3, None, 48), "net.pt2")
    with pytest.raises(ExportError, match=r"for 32xany \(H x W\), and .*|set size = \[32, 64\]"):
        check_size(image, (3, None, 64), "net.pt2")
    with pytest.raises(ExportError, match="takes 4 channels, and mean and std are given for 3"):
        check_size(image, (4, None, None), "net.pt2")
    with pytest.raises(
        ExportError,
        match=r"takes \[batch, 4\] for the input 'latent', and \[batch, 8\] is wanted; check \[latent\]",
    ):
        check_size(NetworkInput(name="latent", size=(8,)), (4,), "net.pt2")
    with pytest.raises(ExportError, match=r"takes \[batch, 8, 1, 1\] .* and \[batch, 8\] is wanted"):
        check_size(NetworkInput(name="latent", size=(8,)), (8, 1, 1), "net.pt2")
