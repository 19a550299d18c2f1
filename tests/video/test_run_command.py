"""`pixelrt run`, as a person or a script uses it."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from disks import small_disk

import pixelrt
from pixelrt import backends
from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.cli.options import BACKENDS
from pixelrt.errors import DeviceError
from pixelrt.video.sinks.null import NullSink
from pixelrt.video.sources import open_source

DRIVE = "test://drive?frames=6&size=96x144"


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> str:
    return str(make_bundle().path)


def test_everything_at_once(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, masks, sheet, figures = (tmp_path / name for name in ("out.mp4", "masks", "sheet.png", "run.json"))
    words = ["run", bundle, DRIVE, "--out", f"{out}", "--out", f"{masks}/", "--sheet", f"{sheet}"]
    assert main([*words, "--json", f"{figures}", "--device", "cpu", "--alpha", "0.4"]) == 0
    shown = capsys.readouterr()
    assert "6 frames of 96x144 in " in shown.out
    for row in ("decode", "wait", "network", "draw", "capture to delivery", "red", "green", "blue"):
        assert f"\n  {row} " in shown.out
    assert "no mIoU: drive has labels in the classes sky" in shown.out
    for file in (out, masks, sheet, figures):
        assert f"\n  {file}\n" in shown.out
        assert file.exists()
    assert "colors on openvino" in shown.err
    assert "drive: 96x144, 6 frames, 25 frames/s" in shown.err
    with open_source(out) as source:
        assert (source.size, len(list(source))) == ((96, 144), 6)
    assert len(list(masks.iterdir())) == 6
    assert json.loads(figures.read_text())["outputs"] == [f"{out}", f"{masks}", f"{sheet}"]


def test_json_on_standard_output_is_alone_there(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", bundle, DRIVE, "--json", "-", "--limit", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 2


def test_miou_is_shown_where_there_is_truth(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.zeros((96, 144, 3), np.uint8)
    image[..., 2] = 220
    (tmp_path / "ids").mkdir()
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "ids/a.png"), np.zeros((96, 144), np.uint8))
    out = tmp_path / "over.png"
    assert main(["run", bundle, f"{tmp_path}/a.png", "--labels", f"{tmp_path}/ids", "--out", f"{out}"]) == 0
    assert "mIoU 100.0%, right pixels 100.0%" in capsys.readouterr().out
    assert cv2.imread(str(out)).shape == (96, 144, 3)


def test_no_legend(bundle: str, tmp_path: Path) -> None:
    words = ["run", bundle, DRIVE, "--limit", "1", "--alpha", "0"]
    assert main([*words, "--out", f"{tmp_path}/with.png"]) == 0
    assert main([*words, "--out", f"{tmp_path}/without.png", "--no-legend"]) == 0
    with open_source(DRIVE) as source:
        frame = next(iter(source)).image
    without = cv2.imread(str(tmp_path / "without.png"))[..., ::-1]
    np.testing.assert_array_equal(without, frame)
    assert (cv2.imread(str(tmp_path / "with.png"))[..., ::-1] != frame).any()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere.mp4"], 1, "error: nowhere.mp4 does not exist"),
        (
            ["rstp://camera/live"],
            2,
            "error: rstp://camera/live: unknown scheme rstp:// (did you mean 'rtsp'?); ",
        ),
        (["rtsp://camera/live#stal=3"], 2, "rtsp:// has no option 'stal' (did you mean 'stall'?)"),
        (["udp://camera"], 2, "error: udp://camera: there is no port in it"),
        (["test://drive?frame=3"], 2, "error: test://drive has no option 'frame' (did you mean 'frames'?)"),
        (["test://drive?frames=0"], 2, "error: a drive has at least 1 frame"),
        (["csi://front"], 2, "error: csi://front names no camera"),
        (["/dev/video0?format=jpg"], 2, "format=jpg: expected one of bgr24, "),
        ([DRIVE, "--out", "out.xyz"], 2, "error: out.xyz ends in .xyz"),
        ([DRIVE, "--out", "out.mp4?encode=mpeg4"], 2, "error: out.mp4: .mp4 has no option 'encode'"),
        ([DRIVE, "--out", "web://local:host"], 2, "error: web://local:host: 'local:host' is no address"),
        ([DRIVE, "--out", "{sources}.mp4"], 2, "error: {sources}.mp4 has {sources} in it (did you mean"),
        (
            [DRIVE, "--out", "nowhere/out.mp4"],
            1,
            "error: nowhere/out.mp4 cannot be written: there is no folder",
        ),
        ([DRIVE, "--sheet", "sheet.txt"], 2, "error: sheet.txt ends in .txt"),
        (
            [DRIVE, "--json", "nowhere/a.json"],
            1,
            "error: nowhere/a.json cannot be written: there is no folder",
        ),
        ([DRIVE, "--labels", "ids"], 1, "error: labels were given"),
        ([DRIVE, "--out", "masks"], 1, "error: masks has no suffix"),
        (
            [DRIVE, "rstp://camera/live", "--keep-going"],
            2,
            "error: rstp://camera/live: unknown scheme rstp://",
        ),
        ([DRIVE, "--out", "o.png", "--json", "o.png"], 1, "error: o.png was asked for twice"),
        ([DRIVE, "--out", "a/../o.png", "--sheet", "o.png"], 1, "error: o.png was asked for twice"),
        ([DRIVE, "--sheet", "o.png", "--json", "./o.png"], 1, "error: ./o.png was asked for twice"),
    ],
)
def test_errors_are_one_message(
    bundle: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", bundle, *words]) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--alpha 2", "--alpha: '2' is no share; give 0 to 1"),
        ("--alpha nan", "--alpha: 'nan' is no share"),
        ("--limit 0", "--limit: '0' is no whole number of at least 1"),
        ("--fps 0", "--fps: '0' is no rate; give 0.01 to 1000 frames a second"),
        ("--fps 1e12", "--fps: '1e12' is no rate"),
        ("--deadline 0", "--deadline: '0' is no time; give seconds above 0"),
        ("--deadline soon", "--deadline: 'soon' is no time"),
        ("--watchdog -1", "--watchdog: '-1' is no time"),
        ("--watchdog inf", "--watchdog: 'inf' is no time"),
        ("--head scenes", "--head: the bundle has no head 'scenes' (did you mean 'scene'?); it has scene"),
        ("--adaptive", "has one input size only (32x48); export it with several sizes, or leave --adaptive"),
        ("--adaptive --policy all", "--adaptive does not go with --policy all"),
        ("--backend openvin", "--backend cannot be 'openvin' (did you mean 'openvino'?)"),
        ("--slots 17", "--slots is 17, expected 1 to 16"),
        ("--out - --out jsonl:", "--out - --out jsonl: asks for standard output twice"),
        ("--out - --json -", "standard output cannot hold both results and --json"),
        ("also.mp4 --labels ids", "--labels belongs to one source, and there are 2"),
    ],
)
def test_wrong_arguments_are_said_first(
    bundle: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    message: str,
) -> None:
    """The source is not even opened: it is not there, and that is not what is said."""
    monkeypatch.setattr("pixelrt.loading.load", None)
    assert main(["run", bundle, "nowhere.mp4", *words.split()]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "None" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--out nowhere/out.mp4", 1, "there is no folder"),
        ("--out out.mp4?segmen=3", 2, "did you mean 'segment'?"),
        ("--out web://:99999", 2, "port is 99999"),
        ("--sheet sheet.txt", 2, "ends in .txt"),
        ("--adaptive", 2, "--adaptive: files wait for the network"),
        (
            "rtsp://127.0.0.1:9/live --keep-going --adaptive",
            2,
            "--adaptive: files wait for the network, and are no load (drive); add --policy latest",
        ),
    ],
)
def test_nothing_is_loaded_for_places_that_cannot_be_written(
    make_bundle: Callable[..., Bundle],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr("pixelrt.loading.load", None)
    several = str(make_bundle(smaller=((16, 24),)).path)
    assert main(["run", several, DRIVE, *words.split()]) == code
    assert message in capsys.readouterr().err


def test_a_sink_that_cannot_be_given_up_keeps_no_other_from_it(
    bundle: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn(NullSink):
        def __init__(self, name: str) -> None:
            self.name = name

        def abort(self) -> None:
            aborted.append(self.name)
            raise OSError("Stale file handle")

    def fail(*_: object, **options: object) -> None:
        raise DeviceError("no GPU")

    aborted: list[str] = []
    monkeypatch.setattr("pixelrt.video.sinks.open_sinks", lambda *_, **__: map(Stubborn, ["one", "other"]))
    monkeypatch.setattr("pixelrt.loading.load", fail)
    assert main(["run", bundle, DRIVE]) == 1
    assert sorted(aborted) == ["one", "other"]
    *warnings, error = capsys.readouterr().err.splitlines()
    assert sorted(warnings) == [
        f"warning: {name} cannot be given up: Stale file handle" for name in ("one", "other")
    ]
    assert error == "error: no GPU"


def test_ctrl_c_while_the_network_is_loaded_is_answered_at_once(
    bundle: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(*words: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        answers.append(capfd.readouterr().err)
        return load(*words, **options)

    answers: list[str] = []
    load = pixelrt.load
    monkeypatch.setattr("pixelrt.loading.load", loading)
    assert main(["run", bundle, DRIVE]) == 130
    assert answers == ["interrupted: it ends when the network is loaded; a second Ctrl-C ends it at once\n"]
    assert capfd.readouterr().err == "interrupted before the first frame; nothing was written\n"


def test_a_deadline_that_drops_everything_is_an_error(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "run.json"
    words = ["--deadline", "1e-6", "--out", f"{tmp_path}/out.mp4", "--json", f"{figures}"]
    assert main(["run", bundle, DRIVE, *words]) == 1
    shown = capsys.readouterr()
    assert "6 deadline" in shown.out
    said = re.search(
        r"error: --deadline 1e-06 dropped 6 of 6 frames: .* about \d+ ms old .*--deadline (\S+)\n", shown.err
    )
    assert said is not None, shown.err
    assert json.loads(figures.read_text())["deadline_s"] == 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json"]
    assert main(["run", bundle, DRIVE, "--deadline", "60"]) == 0
    assert "--deadline" not in capsys.readouterr().err


def test_a_full_disk_shows_the_figures(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "run.json"
    with small_disk(tmp_path / "disk", 200) as disk:
        drive = "test://drive?frames=100000&size=480x640"
        assert main(["run", bundle, drive, "--out", f"{disk}/out.mp4", "--json", f"{figures}"]) == 1
    shown = capsys.readouterr()
    assert "cannot be written (No space left on device)" in shown.err.splitlines()[-1]
    assert ", then it failed\n" in shown.out
    assert "capture to delivery" in shown.out
    assert re.search(r"\nSinks\n.*\n +\S+/out.mp4 .*No space left", shown.out)
    assert f"\nWritten\n  {figures}\n" in shown.out
    assert json.loads(figures.read_text())["interrupted"]


def test_standard_error_that_is_closed_from_the_start_is_missed_by_nobody(
    bundle: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    command = f"exec {sys.executable} -m pixelrt run {bundle} '{DRIVE}' --out {out} 2>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert "6 frames of 96x144 in " in done.stdout
    assert len(out.read_text().splitlines()) == 6


def test_a_sink_that_fails_shows_the_figures(bundle: str, tmp_path: Path) -> None:
    figures = tmp_path / "run.json"
    words = ["run", bundle, "test://drive?frames=1000000&size=64x96", "--out", "-", "--json", f"{figures}"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pixelrt", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    *shown, problem = done.stderr.splitlines()
    assert any(re.fullmatch(r"\d+ frames? of 64x96 in .*, then it failed", line) for line in shown)
    assert "Sinks" in shown
    assert problem == "error: standard output cannot be written (No space left on device)"
    assert json.loads(figures.read_text())["interrupted"]


def test_figures_that_cannot_be_written_hide_no_failure(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 200) as disk:
        drive = "test://drive?frames=100000&size=480x640"
        words = ["--out", f"{disk}/out.jsonl", "--json", f"{disk}/run.json"]
        (disk / "filler").write_bytes(bytes(198 * 1024))
        assert main(["run", bundle, drive, *words]) == 1
    shown = capsys.readouterr()
    assert "capture to delivery" in shown.out
    problems = shown.err.splitlines()[-2:]
    assert [word in line for word, line in zip(("run.json", "out.jsonl"), problems, strict=True)] == [
        True
    ] * 2


def test_one_video_of_two_is_broken(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = tmp_path / "drive.mp4"
    assert main(["run", bundle, "test://drive?frames=30&size=96x144", "--out", f"{video}"]) == 0
    content = video.read_bytes()
    (tmp_path / "broken.mp4").write_bytes(content[: len(content) * 7 // 10])
    capsys.readouterr()
    assert main(["run", bundle, f"{tmp_path}/broken.mp4", f"{video}", "--keep-going"]) == 1
    shown = capsys.readouterr()
    assert "; 1 of 2 sources failed\n" in shown.out
    assert "interrupted" not in shown.out
    assert re.search(r"\n  drive.mp4 +30 +30 ", shown.out)
    assert re.search(r"\nbroken.mp4 failed: .* is damaged after frame ", shown.out)


def test_the_same_source_twice_has_one_name_each_everywhere(
    bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", bundle, DRIVE, DRIVE]) == 0
    shown = capsys.readouterr()
    assert "\ndrive: 96x144" in shown.err
    assert "\ndrive-2: 96x144" in shown.err
    assert re.search(r"\n  drive-2 +6 +6 ", shown.out)


def test_nothing_that_is_read_is_replaced(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, photos = tmp_path / "clip.mp4", tmp_path / "photos"
    assert main(["run", bundle, DRIVE, "--out", f"{clip}"]) == 0
    photos.mkdir()
    cv2.imwrite(str(photos / "1.png"), np.zeros((96, 144, 3), np.uint8))
    before = {path: path.read_bytes() for path in (clip, photos / "1.png")}
    link = tmp_path / "link.json"
    link.symlink_to(clip)
    for words in (
        [f"{clip}", "--json", f"{clip}"],
        [f"{clip}", "--json", f"{link}"],
        [f"{clip}", "--out", f"{clip}"],
        [f"{photos}", "--sheet", f"{photos}/1.png"],
    ):
        capsys.readouterr()
        assert main(["run", bundle, *words]) == 1
        assert "is read from; write somewhere else" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "link.json", "photos"]


@pytest.mark.parametrize("words", ["--out {}/a.mp4", "--out {}/", "--sheet {}/a.png", "--json {}/a.json"])
def test_nothing_is_written_into_the_bundle(
    bundle: str, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    before = sorted(Path(bundle).iterdir())
    assert main(["run", bundle, DRIVE, *words.format(bundle).split()]) == 1
    assert f"is in the bundle {bundle}; write somewhere else" in capsys.readouterr().err
    assert sorted(Path(bundle).iterdir()) == before


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_are_refused_before_anything_is_opened(
    make_bundle: Callable[..., Bundle],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    channels: int,
) -> None:
    made = make_bundle()
    values = (0.5,) * channels
    form = dataclasses.replace(made.manifest.preprocess, channels=channels, mean=values, std=values)
    (made.path / "manifest.json").write_text(dataclasses.replace(made.manifest, preprocess=form).to_json())
    assert main(["run", str(made.path), DRIVE, "--out", f"{tmp_path}/masks/"]) == 1
    shown = capsys.readouterr()
    assert f"takes frames of {channels} channel" in shown.err
    assert f"uint8[H, W, {channels}]" in shown.err
    assert shown.err.count("\n") == 1  # nothing was announced
    assert not list(tmp_path.iterdir())


def test_backends_are_those_that_there_are() -> None:
    assert tuple(backends.BACKENDS) == BACKENDS


def test_a_source_that_is_not_there_leaves_the_others(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{tmp_path}/nowhere.mp4", DRIVE, "--out", f"{tmp_path}/{{source}}.mp4"]
    assert main(["run", bundle, *words]) == 1
    assert not list(tmp_path.iterdir())
    capsys.readouterr()
    assert main(["run", bundle, *words, "--keep-going"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"warning: left out: {tmp_path}/nowhere.mp4 does not exist")
    assert shown.err.splitlines()[-1].startswith(f"error: {tmp_path}/nowhere.mp4 does not exist")
    assert "6 frames of 96x144 in " in shown.out
    assert [path.name for path in tmp_path.iterdir()] == ["drive.mp4"]


def test_of_several_sources_one_must_be_there(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", bundle, "nowhere.mp4", "neither.mp4", "--keep-going"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("error: nowhere.mp4 does not exist")


def test_wrong_options_of_the_machine(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", bundle, DRIVE, "--precision", "float31"]) == 2
    assert "--precision cannot be 'float31' (did you mean 'float32'?)" in capsys.readouterr().err
    assert main(["run", bundle, DRIVE, "--threads", "0"]) == 2
    assert "--threads: '0' is no whole number of at least 1" in capsys.readouterr().err


def test_a_broken_video_shows_its_figures_and_fails(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "drive.mp4"
    assert main(["run", bundle, "test://drive?frames=30&size=96x144", "--out", f"{video}"]) == 0
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 7 // 10])
    capsys.readouterr()
    assert main(["run", bundle, f"{video}", "--out", f"{tmp_path}/out.mp4"]) == 1
    shown = capsys.readouterr()
    assert "is damaged after frame" in shown.err
    assert "then it failed" in shown.out
    assert "capture to delivery" in shown.out
    assert (tmp_path / "out.mp4").exists()
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".tmp"]


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "test://drive?frames=300&size=720x1280&seed=7" in shown
    assert "without it nothing is kept but the figures" in shown
