"""What every backend must do, tried on each."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelrt.backends import BACKENDS, Precision, Session
from pixelrt.bundle import Bundle
from pixelrt.errors import DeviceError, InputError
from pixelrt.manifest import PrecisionType
from pixelrt.session import open_model

Batch = NDArray[np.uint8]
GRID = (2, 3)
STRIPES = np.repeat(np.arange(3), 16)


def stripes(batch: int = 1) -> Batch:
    """Three upright stripes: red, green, blue."""
    row = np.eye(3, dtype=np.uint8)[STRIPES] * 255
    return np.broadcast_to(row, (batch, 32, 48, 3)).copy()


class BackendContract:
    """Subclasses name a backend, the ONNX that it is tried with, and the precision it then computes in."""

    backend: str
    model: PrecisionType = "fp32"
    precision: Precision = "float32"

    @pytest.fixture
    def bundle(self, make_bundle: Callable[..., Bundle]) -> Bundle:
        return make_bundle(precision=self.model)

    def open(self, bundle: Bundle, threads: int | None = None) -> Session:
        content = bundle.read(bundle.model)
        return open_model(
            content, bundle.manifest, backend=self.backend, precision=self.precision, threads=threads
        )

    @pytest.fixture
    def session(self, bundle: Bundle) -> Session:
        if self.precision not in BACKENDS[self.backend].precisions("cpu", bundle.manifest):
            pytest.skip(f"this CPU does not compute {self.precision}")
        return self.open(bundle)

    def test_says_what_it_is(self, session: Session, bundle: Bundle) -> None:
        info = session.info
        assert (info.backend, info.device, info.precision) == (self.backend, "cpu", self.precision)
        assert info.version[0].isdigit()
        assert [(spec.name, spec.shape) for spec in session.inputs] == [("frame", ("batch", 32, 48, 3))]
        assert [spec.name for spec in session.outputs] == [tensor.name for tensor in bundle.manifest.outputs]

    def test_finds_the_classes(self, session: Session) -> None:
        outputs = session.run({"frame": stripes()})
        assert outputs["mask"].dtype == outputs["confidence"].dtype == np.uint8
        np.testing.assert_array_equal(outputs["mask"], np.broadcast_to(STRIPES, (1, 32, 48)))
        assert outputs["confidence"].min() == 255
        grid = outputs["grid"]
        assert (grid.dtype, grid.shape) == (np.float32, (1, 3, *GRID))
        np.testing.assert_allclose(grid[0], np.eye(3)[:, None, :].repeat(2, 1), atol=1e-3)
        np.testing.assert_allclose(
            outputs["logits"][0, :, 5, 5], [20.0, -20.0, -20.0], atol=0.1 if self.model == "fp32" else 0.2
        )

    def test_a_batch_is_its_frames(self, session: Session) -> None:
        frames = stripes(3)
        frames[1] = frames[1][:, ::-1]
        frames[2, :16] = (0, 255, 0)
        together = session.run({"frame": frames})
        for index in range(3):
            alone = session.run({"frame": frames[index : index + 1]})
            for name, value in alone.items():
                np.testing.assert_allclose(together[name][index : index + 1], value, atol=1e-5)

    def test_the_caller_owns_the_results(self, session: Session) -> None:
        first = session.run({"frame": stripes()})
        kept = {name: value.copy() for name, value in first.items()}
        first_mask = first["mask"]
        session.run({"frame": stripes()[:, :, ::-1]})
        np.testing.assert_array_equal(first_mask, kept["mask"])
        first_mask[:] = 9
        again = session.run({"frame": stripes()})
        np.testing.assert_array_equal(again["mask"], kept["mask"])

    def test_the_input_is_left_alone_and_may_have_any_strides(self, session: Session) -> None:
        frames = stripes()[:, :, ::-1]
        assert not frames.flags.c_contiguous
        before = frames.copy()
        mask = session.run({"frame": frames})["mask"]
        np.testing.assert_array_equal(frames, before)
        np.testing.assert_array_equal(mask[0, 0], STRIPES[::-1])

    def test_the_input_may_be_read_only(self, session: Session) -> None:
        frames = stripes()
        frames.flags.writeable = False
        np.testing.assert_array_equal(session.run({"frame": frames})["mask"][0, 0], STRIPES)

    @pytest.mark.parametrize(
        ("feeds", "message"),
        [
            ({}, r"inputs \[\] were given, expected \['frame'\]"),
            ({"image": stripes()}, r"inputs \['image'\] were given, expected \['frame'\]"),
            ({"frame": stripes().astype(np.float32)}, r"'frame' is float32\[1, 32, 48, 3\], expected uint8"),
            ({"frame": stripes()[0]}, r"is uint8\[32, 48, 3\], expected uint8\[batch, 32, 48, 3\]"),
            ({"frame": [1, 2]}, "is a list, expected a NumPy array"),
            ({"frame": np.zeros((1, 64, 48, 3), np.uint8)}, r"is uint8\[1, 64, 48, 3\], expected uint8"),
            ({"frame": stripes()[..., :1]}, r"is uint8\[1, 32, 48, 1\], expected"),
            ({"frame": stripes()[:0]}, r"is uint8\[0, 32, 48, 3\], expected"),
        ],
    )
    def test_refuses_what_does_not_fit(self, session: Session, feeds: dict[str, Batch], message: str) -> None:
        with pytest.raises(InputError, match=message):
            session.run(feeds)

    def test_a_closed_session_says_so(self, bundle: Bundle, session: Session) -> None:
        with session as opened:
            opened.run({"frame": stripes()})
        with pytest.raises(DeviceError, match="closed; open the bundle again"):
            session.run({"frame": stripes()})
        session.close()

    def test_a_second_thread_is_refused_and_the_first_is_not_disturbed(self, session: Session) -> None:
        frames, refused, served = stripes(64), [], []
        start = threading.Barrier(2)

        def attempt() -> None:
            try:
                served.append(session.run({"frame": frames})["mask"][0, 0])
            except DeviceError as problem:
                refused.append(str(problem))

        def work() -> None:
            start.wait()
            for _ in range(20):
                attempt()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(served) + len(refused) == 40
        assert refused, "two threads ran at once and neither was refused"
        assert all("in use by another thread" in text for text in refused)
        assert all((mask == STRIPES).all() for mask in served)

    def test_threads_are_limited_on_request(self, bundle: Bundle, session: Session) -> None:
        with self.open(bundle, threads=1) as single:
            np.testing.assert_array_equal(
                single.run({"frame": stripes()})["mask"], session.run({"frame": stripes()})["mask"]
            )

    def test_a_graph_that_is_none_is_refused(self, bundle: Bundle, session: Session) -> None:
        with pytest.raises(DeviceError, match=r"cannot (compile|load) the model"):
            open_model(
                b"no graph", bundle.manifest, backend=self.backend, precision=self.precision, threads=None
            )


class TestOpenVINO(BackendContract):
    backend = "openvino"


class TestOpenVINOBfloat16(BackendContract):
    backend = "openvino"
    model = "fp16"
    precision = "bfloat16"


class TestOpenVINOOnHalfPrecisionGraph(BackendContract):
    backend = "openvino"
    model = "fp16"


class TestONNXRuntime(BackendContract):
    backend = "onnxruntime"


class TestONNXRuntimeOnHalfPrecisionGraph(BackendContract):
    backend = "onnxruntime"
    model = "fp16"
