"""Bare networks of generators: exported, run by ONNX Runtime, and compared with their original."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from pixelrt.manifest import NoiseInfo
from pixelrt_export.inputs import NetworkInput, NetworkSpec
from pixelrt_export.network import HeadOutput, Network

Feeds = dict[str, NDArray[Any]]


def latent(*size: int, **options: Any) -> NetworkInput:
    return NetworkInput(name="latent", size=size, range=(-2, 2), **options)


def label(classes: int, **options: Any) -> NetworkInput:
    return NetworkInput(name="label", size=(), dtype="int64", range=(0, classes), **options)


def image(*size: int, **options: Any) -> NetworkInput:
    return NetworkInput(name="image", size=size, range=(-1, 1), **options)


def spec_of(
    *inputs: NetworkInput, output: int | str | None = None, max_batch: int = 4, **options: Any
) -> NetworkSpec:
    heads = (HeadOutput("generated", output),)
    return NetworkSpec(inputs=inputs, heads=heads, max_batch=max_batch, **options)


def feeds_of(spec: NetworkSpec, noise: tuple[NoiseInfo, ...], batch: int, seed: int = 0) -> Feeds:
    """Random values of every input."""
    rng = np.random.default_rng(seed)
    feeds: Feeds = {}
    for one in spec.inputs:
        shape, (low, high) = (batch, *one.size), one.range
        if one.dtype == "int64":
            feeds[one.name] = rng.integers(round(low), round(high), shape)
        else:
            feeds[one.name] = rng.uniform(low, high, shape).astype(np.float32)
    for info in noise:
        draw = rng.standard_normal if info.distribution == "normal" else rng.random
        feeds[info.name] = draw((batch, *info.size), np.float32)
    return feeds


def run(model: ModelProto, feeds: Feeds) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (generated,) = session.run(["head_generated"], feeds)
    return generated  # type: ignore[no-any-return]


def assert_same(network: Network, spec: NetworkSpec, batches: tuple[int, ...] = (1, 3)) -> ModelProto:
    """Export a network, and compare it with its original on equal inputs and equal noise."""
    model = network.to_onnx(spec)
    names = [one.name for one in spec.inputs] + [info.name for info in network.noise]
    assert [value.name for value in model.graph.input] == names
    for batch in batches:
        feeds = feeds_of(spec, network.noise, batch, seed=batch)
        expected = network.reference(feeds)["generated"]
        assert expected.shape[0] == batch
        assert expected.std() > 0
        np.testing.assert_allclose(run(model, feeds), expected, atol=1e-5 * np.abs(expected).max())
    return model
