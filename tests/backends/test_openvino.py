"""OpenVINO on the CPU: what it computes by itself, and what it must be kept from."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from generators import write_generator
from onnx import ModelProto, TensorProto, helper, numpy_helper

import pixelrt
from pixelrt import Random
from pixelrt.backends import openvino
from pixelrt.bundle import Bundle
from pixelrt.manifest import LatentInfo, OutputInfo
from pixelrt.video.live.failing import Failing
from pixelrt_export.fuse_generator import GeneratorSpec, generator_axes

SIZE = (8, 12)


def from_a_learned_constant(operator: str) -> ModelProto:
    """As a StyleGAN begins: a convolution of a constant, expanded to the batch, and noise on top."""
    random = np.random.default_rng(4)
    constants = {
        "constant": random.uniform(20, 60, (1, 3, *SIZE)).astype(np.float32),
        "weights": random.uniform(-0.3, 0.5, (3, 3, 3, 3)).astype(np.float32),
        "strength": np.full((1, 3, 1, 1), 20, np.float32),
        "first": np.array([0]),
        "rest": np.array([3, *SIZE]),
    }
    nodes = [
        helper.make_node("Shape", ["latent"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["wanted"], axis=0),
        helper.make_node("Expand", ["constant", "wanted"], ["expanded"]),
        helper.make_node(operator, ["expanded", "weights"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["latent", "strength"], ["noise"]),
        helper.make_node("Add", ["features", "noise"], ["head_generated"]),
    ]
    graph = helper.make_graph(
        nodes,
        "style",
        [helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["batch", 1, *SIZE])],
        [helper.make_tensor_value_info("head_generated", TensorProto.FLOAT, ["batch", 3, *SIZE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("problem", [RuntimeError("no plugin"), MemoryError(), AttributeError("Core")])
def test_a_core_that_cannot_be_made_is_an_error_and_no_endless_wait(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def failing() -> None:
        raise problem

    monkeypatch.setattr(openvino, "_library", lambda: SimpleNamespace(Core=failing))
    loading = Future[BaseException]()

    def load() -> None:
        with Failing(loading.set_result):
            openvino._lasting_core.__wrapped__()

    threading.Thread(target=load, daemon=True).start()
    assert loading.result(timeout=10) is problem


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_depends_on_no_input_stays_the_same_from_run_to_run(
    tmp_path: Path, operator: str, precision: pixelrt.session.Precision
) -> None:
    spec = GeneratorSpec(
        latent=LatentInfo(size=(1, *SIZE), distribution="normal"), range="none", axes=generator_axes()
    )
    output = OutputInfo(size=SIZE, channels=3, range="none")
    bundle = write_generator(tmp_path, "style", from_a_learned_constant(operator), spec, output)
    if precision not in pixelrt.backends.BACKENDS["openvino"].precisions("cpu", None):
        pytest.skip("this CPU does not compute bfloat16")
    with (
        pixelrt.load(bundle, backend="onnxruntime") as expected,
        pixelrt.load(bundle, backend="openvino", precision=precision) as found,
    ):
        for seed in range(4):
            images = [one.sample(1, strategy=Random(seed)).images.astype(int) for one in (found, expected)]
            assert images[1].std() > 10
            assert abs(images[0] - images[1]).max() <= (1 if precision == "float32" else 2)


SIGNAL_STACK = """
import os, signal, sys, threading
from signal_stack import signal_stack

before = signal_stack()
import pixelrt
segmenter = pixelrt.load(sys.argv[1], device="cpu", backend="openvino")
assert signal_stack() == before, "the main thread's signals are handled on OpenVINO's stack"
segmenter.close()
try:
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(60)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="OpenVINO does this on Linux alone")
def test_the_signals_of_the_main_thread_are_not_handled_on_a_stack_that_openvino_frees(
    make_bundle: Callable[..., Bundle],
) -> None:
    command = [sys.executable, "-c", SIGNAL_STACK, str(make_bundle().path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


BEHIND_MAIN = """
import sys, threading
import pixelrt

def work():
    threading.main_thread().join()
    with pixelrt.load(sys.argv[1], device="cpu", backend="openvino") as segmenter:
        print(segmenter.session.info.backend)

threading.Thread(target=work).start()
"""


def test_a_thread_that_outlives_the_main_one_can_load(make_bundle: Callable[..., Bundle]) -> None:
    command = [sys.executable, "-c", BEHIND_MAIN, str(make_bundle().path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "openvino\n", "")
