"""`pixelrt build`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorrt_rtx
from onnx import helper

from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.errors import PixelRTError

MakeModel = Callable[..., bytes]
VERSION = str(tensorrt_rtx.__version__)


@pytest.fixture
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(emit=("mask", "confidence"), precision="fp16")


def engines(folder: Path) -> list[tuple[str, ...]]:
    return [item.targets for item in Bundle.open(folder).manifest.artifacts if item.kind == "engine"]


def test_named_targets(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(bundle.path), "--target", "sm86", "--target", "sm120"]) == 0
    assert engines(bundle.path) == [("sm86",), ("sm120",)]
    out, err = capsys.readouterr()
    assert f"tensorrt_rtx-{VERSION}-sm86.engine" in out
    assert f"tensorrt_rtx-{VERSION}-sm120.engine" in out
    assert err == ""


def test_all_targets_without_one(bundle: Bundle) -> None:
    assert main(["build", str(bundle.path), "--together"]) == 0
    assert engines(bundle.path) == [("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")]


def test_flags_of_trtexec(bundle: Bundle) -> None:
    words = ["build", str(bundle.path), "--target=sm89", "--memPoolSize=workspace:1G"]
    words += ["--minShapes=frame:1x720x1280x3", "--maxShapes=frame:1x720x1280x3"]
    assert main(words) == 0
    (engine,) = [item for item in Bundle.open(bundle.path).manifest.artifacts if item.kind == "engine"]
    assert engine.options == {
        "minShapes": "frame:1x720x1280x3",
        "optShapes": "frame:1x720x1280x3",
        "maxShapes": "frame:1x720x1280x3",
        "workspace_mib": 1024.0,
        "profilingVerbosity": "detailed",
    }


@pytest.mark.parametrize(
    ("text", "mib"), [("workspace:64", 64), ("workspace:0.5G", 512), ("workspace:2048K", 2)]
)
def test_units_of_the_workspace(bundle: Bundle, text: str, mib: float) -> None:
    from pixelrt.cli.entry import build_parser

    parser, _ = build_parser("build")
    assert parser.parse_args(["build", "x", "--memPoolSize", text]).workspace_mib == mib


def test_dry_run(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(bundle.path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    for part in (
        f"TensorRT-RTX {VERSION}",
        "[batch, height, width, 3]",
        "1x720x1280x3",
        "4x2160x3840x3",
        "confidence",
        "[batch, 32, 48]",
    ):
        assert part in out
    assert engines(bundle.path) == []


def test_dry_run_that_finds_something(
    bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
    make_model: MakeModel,
    replace_model: Callable[[Bundle, bytes], Bundle],
) -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="first"),
        helper.make_node("Wobble", ["a"], ["y"], name="second"),
    ]
    bundle = replace_model(bundle, make_model(*nodes))
    assert main(["build", str(bundle.path), "--dry-run"]) == 1
    out = capsys.readouterr().out
    assert "node 0 'first' (Det): the operator Det is not supported" in out
    assert "operators: Det, Wobble" in out


def test_what_was_built_is_shown_beside_what_was_not(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(bundle.path), "--target", "sm87", "--target", "sm86"]) == PixelRTError.exit_code
    out, err = capsys.readouterr()
    assert "sm86.engine" in out
    assert "error: 1 of 2 engines could not be built; the other 1 are in" in err
    assert "sm87 is Jetson Orin" in err


@pytest.fixture
def broken_report(bundle: Bundle) -> None:
    """A report that is there and cannot be brought up to date."""
    (bundle.path / "report.html").write_bytes(b"\xff\xfe no UTF-8")


@pytest.mark.usefixtures("broken_report")
def test_a_report_that_cannot_be_refreshed_hides_no_error(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(bundle.path), "--target", "sm86", "--target", "sm87"]) == 1
    err = capsys.readouterr().err
    assert "warning: " in err
    assert "report.html" in err
    assert "error: 1 of 2 engines could not be built" in err
    assert "sm87 is Jetson Orin" in err
    assert engines(bundle.path) == [("sm86",)]


@pytest.mark.usefixtures("broken_report")
def test_without_an_engine_the_report_is_left_alone(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(bundle.path), "--target", "sm87"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: TensorRT-RTX")
    assert "report.html" not in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--target", "8.6"], 1, "target '8.6': a compute capability such as 'sm86', or 'local'"),
        (["--flavour", "tensorrt", "--target", "sm86"], 1, "use 'local' there, or TensorRT-RTX"),
        (["--maxShapes", "frame:8x8"], 1, "does not fit the input, batchxheightxwidthx3 was expected"),
        (["--maxShapes", "8x8"], 2, "--maxShapes: '8x8': expected name:1x720x1280x3"),
        (["--memPoolSize", "dlaSRAM:1"], 2, "--memPoolSize: 'dlaSRAM:1': expected workspace:N"),
        (["--memPoolSize", "workspace:0"], 2, "expected workspace:N"),
        (["--targets", "sm86"], 2, "unknown option --targets (did you mean '--target'?)"),
    ],
)
def test_wrong_arguments(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert main(["build", str(bundle.path), *words]) == code
    assert message in capsys.readouterr().err
    assert engines(bundle.path) == []


def test_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(tmp_path)]) == 1
    assert "is not a bundle" in capsys.readouterr().err


def test_verbose_shows_what_tensorrt_says(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(bundle.path), "--target", "sm86", "--verbose"]) == 0
    assert "TensorRT: " in capsys.readouterr().err


class TestImpossibleShapes:
    """TensorRT warns of them, and gives an engine that runs nothing."""

    def test_replace_no_engine(self, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
        build = ["build", str(bundle.path), "--target", "sm86"]
        assert main(build) == 0
        before = Bundle.open(bundle.path).manifest
        assert main([*build, "--maxShapes=frame:99x99999x99999x3"]) == 1
        assert "cannot build for these shapes" in capsys.readouterr().err
        assert Bundle.open(bundle.path).manifest == before

    def test_dry_run_refuses_what_a_build_refuses(
        self, bundle: Bundle, capsys: pytest.CaptureFixture[str]
    ) -> None:
        dry = ["build", str(bundle.path), "--dry-run"]
        assert main([*dry, "--builderOptimizationLevel=3"]) == 1
        assert "has no --builderOptimizationLevel" in capsys.readouterr().err
        assert main([*dry, "--target", "sm90"]) == 1
        assert "cannot build for sm90" in capsys.readouterr().err
