"""Where `pixelrt run` writes, and where it does not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from disks import small_disk

from pixelrt.bundle import Bundle
from pixelrt.cli import main

DRIVE = "test://drive?frames=6&size=96x144"


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> Path:
    return make_bundle().path


@pytest.mark.parametrize("word", ["--json", "--sheet", "--out"])
def test_a_pipe_is_not_replaced(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    pipe = tmp_path / ("pipe.jsonl" if word == "--out" else "pipe.png")
    os.mkfifo(pipe)
    assert main(["run", str(bundle), DRIVE, word, str(pipe)]) == 1
    refusal = f"error: {pipe} cannot be written: it is no file but a device, a pipe or a socket"
    assert refusal in capsys.readouterr().err
    assert pipe.is_fifo()


def test_figures_go_where_a_link_points(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "latest.json").symlink_to("run-1.json")
    assert main(["run", str(bundle), DRIVE, "--json", f"{tmp_path}/latest.json"]) == 0
    assert (tmp_path / "latest.json").is_symlink()
    assert json.loads((tmp_path / "run-1.json").read_text())["frames"] == 6


def test_one_time_in_all_names(bundle: Path, tmp_path: Path) -> None:
    words = [["--out", "a-{time}.jsonl"], ["--sheet", "b-{time}.png"], ["--json", "c-{time}.json"]]
    command = [each for word, name in words for each in (word, f"{tmp_path}/{name}")]
    assert main(["run", str(bundle), DRIVE, *command]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[0] for name in names] == ["a", "b", "c"]
    (time,) = {name[2:].partition(".")[0] for name in names}
    assert re.fullmatch(r"20\d{6}T\d{6}Z", time)


def test_parts_leave_the_figures_alone(bundle: Path, tmp_path: Path) -> None:
    command = ["--out", f"{tmp_path}/a.jsonl?segment=0.1", "--json", f"{tmp_path}/a-2.jsonl"]
    assert main(["run", str(bundle), DRIVE, *command]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.jsonl", "a-3.jsonl", "a.jsonl"]
    assert json.loads((tmp_path / "a-2.jsonl").read_text())["frames"] == 6


@pytest.mark.parametrize("place", ["o.jsonl", "sizes/o.jsonl", "sizes/48x72/o.jsonl"])
def test_nothing_is_written_into_a_bundle_of_several_sizes(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    whole, smaller = tmp_path / "two", tmp_path / "two/sizes/48x72"
    shutil.copytree(bundle, whole)
    shutil.copytree(bundle, smaller)
    assert main(["run", str(smaller), DRIVE, "--out", f"{whole}/{place}"]) == 1
    assert f"is in the bundle {whole}; write somewhere else" in capsys.readouterr().err
    assert not list(whole.rglob("*.jsonl"))
    assert main(["run", str(smaller), DRIVE, "--out", f"{tmp_path}/o.jsonl"]) == 0


def test_figures_on_a_full_disk(bundle: Path, tmp_path: Path) -> None:
    """Standard output may be a file there."""
    command = [sys.executable, "-m", "pixelrt", "run", str(bundle), DRIVE, "--json", "-"]
    with small_disk(tmp_path / "disk", 4) as disk:
        (disk / "full").write_bytes(bytes(4096))
        with (disk / "out.json").open("wb") as out:
            done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False, text=True)
    assert done.returncode == 1
    assert "error: standard output cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
