"""Which backend and precision a bundle gets, and why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from pixelrt.backends import BACKENDS
from pixelrt.bundle import MODEL, Bundle
from pixelrt.errors import BundleError, DeviceError, InputError
from pixelrt.session import SessionOptions, choices, open_model, open_session

MakeBundle = Callable[..., Bundle]
has_bfloat16 = "bfloat16" in BACKENDS["openvino"].precisions("cpu", None)
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16, reason="this CPU does not compute bfloat16")
no_gpu = pytest.mark.skipif(not BACKENDS["tensorrt"].unusable("cuda"), reason="TensorRT runs here")

BOTH = {("openvino", "bfloat16"): True, ("openvino", "float32"): True}


@needs_bfloat16
def test_the_fastest_precision_whose_gate_passed_is_taken(make_bundle: MakeBundle) -> None:
    with open_session(make_bundle(passed=BOTH)) as session:
        assert (session.info.backend, session.info.precision) == ("openvino", "bfloat16")
        assert "fastest precision here whose gate passed" in session.info.why


def test_a_precision_whose_gate_failed_is_not_taken(make_bundle: MakeBundle) -> None:
    with open_session(make_bundle(passed={**BOTH, ("openvino", "bfloat16"): False})) as session:
        assert session.info.precision == "float32"


def test_without_a_gate_the_most_exact_precision_is_taken_and_said(make_bundle: MakeBundle) -> None:
    with open_session(make_bundle(passed=None)) as session:
        assert session.info.precision == "float32"
        assert "the gate was skipped at the export" in session.info.why


def test_a_verdict_counts_for_its_device_alone(make_bundle: MakeBundle) -> None:
    gate = make_bundle(passed=BOTH).manifest.gate
    assert gate.passed("openvino", "float32") is True
    assert gate.passed("openvino", "float32", "cuda") is None


def test_nothing_runs_where_no_precision_passed(make_bundle: MakeBundle) -> None:
    verdicts = {("openvino", "bfloat16"): False, ("openvino", "float32"): False}
    bundle = make_bundle(passed=verdicts)
    with pytest.raises(DeviceError, match="no precision of openvino passed the gate"):
        open_session(bundle, SessionOptions(backend="openvino"))
    with open_session(bundle, SessionOptions(backend="openvino", precision="float32")) as session:
        assert session.info.why == "float32 was asked for, although its gate failed"


@no_gpu
def test_every_way_has_a_reason_and_the_first_usable_is_opened(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(passed=BOTH)
    judged = choices(bundle)
    assert [(choice.backend, choice.device) for choice in judged] == [
        ("tensorrt", "cuda"),
        ("onnxruntime", "cuda"),
        ("openvino", "cpu"),
        ("onnxruntime", "cpu"),
    ]
    assert [choice.usable for choice in judged] == [False, False, True, True]
    assert all(choice.reason for choice in judged)
    with open_session(bundle) as session:
        assert session.info.backend == "openvino"
    assert [choice.usable for choice in choices()] == [False, False, True, True]


@no_gpu
def test_cuda_forbids_the_cpu_and_gives_all_reasons(make_bundle: MakeBundle) -> None:
    with pytest.raises(DeviceError, match="nothing here may run") as caught:
        open_session(make_bundle(), SessionOptions(device="cuda"))
    _, *reasons = str(caught.value).splitlines()
    assert any("tensorrt on cuda" in reason for reason in reasons)
    assert "  openvino on cpu, onnxruntime on cpu: device 'cuda' was asked for" in reasons


def test_another_backend_is_opened_on_request(make_bundle: MakeBundle) -> None:
    with open_session(make_bundle(precision="fp16"), SessionOptions(backend="onnxruntime")) as session:
        assert (session.info.backend, session.info.precision) == ("onnxruntime", "float32")


def test_a_precision_that_a_backend_lacks_is_refused(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    options = SessionOptions(backend="onnxruntime", precision="bfloat16")
    with pytest.raises(
        DeviceError, match="onnxruntime on cpu cannot compute this bundle in bfloat16, it can in"
    ):
        open_session(bundle, options)
    with pytest.raises(DeviceError, match="cannot compute this bundle in float16"):
        open_model(b"", bundle.manifest, backend="openvino", precision="float16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device is 'gpu', expected one of auto, cpu, cuda"),
        ({"backend": "openvin"}, r"did you mean 'openvino'\?"),
        ({"precision": "fp16"}, "precision is 'fp16', expected one of float32, bfloat16, float16"),
        ({"threads": 0}, "threads is 0, expected 1 or more"),
        ({"threads": 1.5}, "threads is 1.5, expected 1 or more"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SessionOptions(**options)  # type: ignore[arg-type]


def test_a_damaged_model_is_refused_before_it_is_loaded(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    file = bundle.path / MODEL
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match="was changed or damaged"):
        open_session(bundle)


def test_without_openvino_the_reason_names_what_to_install(make_bundle: MakeBundle) -> None:
    script = (
        "import sys; sys.modules['openvino'] = None\n"
        "from pixelrt.session import choices\n"
        "print([choice.reason for choice in choices() if choice.backend == 'openvino'])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "pip install 'pixelrt[cpu]'" in shown


def test_openvino_reports_nothing_to_its_makers() -> None:
    program = (
        "import sys, threading\n"
        "from pixelrt.backends.openvino import OpenVINOBackend\n"
        "print(OpenVINOBackend().unusable('cpu'))\n"
        "import openvino\n"
        "assert openvino.convert_model\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
