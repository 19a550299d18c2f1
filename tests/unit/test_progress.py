"""Progress on a terminal, with and without rich, and in a log."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from pixelrt import progress
from pixelrt.bundle import Bundle
from pixelrt.terminal import console

WITHOUT_RICH = """
import sys

class NoRich:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "rich":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoRich())
"""
COMMAND = "import sys; from pixelrt.cli import main; sys.exit(main(sys.argv[1:]))"


def on_a_terminal(code: str, *words: str) -> tuple[int, str]:
    """Run Python with its standard error on a terminal; its exit code and what the terminal got."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux tells that the other side is closed
                break
            said += part
    os.close(ours)
    return process.returncode, said.decode()


def test_bars_where_rich_is(make_bundle: Callable[..., Bundle]) -> None:
    code, said = on_a_terminal(COMMAND, "run", str(make_bundle().path), "test://drive?frames=9&size=64x64")
    assert code == 0, said
    assert "frames" in said and "\u2501" in said, "a bar"
    assert "\x1b[" in said


@pytest.mark.parametrize("command", ["run", "build"])
def test_commands_need_no_rich(make_bundle: Callable[..., Bundle], command: str) -> None:
    bundle = str(make_bundle(emit=("mask", "confidence"), precision="fp16").path)
    words = {"run": [bundle, "test://drive?frames=3&size=64x64"], "build": [bundle, "--target", "sm86"]}
    code, said = on_a_terminal(WITHOUT_RICH + COMMAND, command, *words[command])
    assert code == 0, said
    assert "\x1b[" not in said
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RICH + COMMAND, command, *words[command]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_lines_come_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.05)
    with progress.showing_progress() as show:
        show("frames", 1, 300, "25.0 frames/s")
        time.sleep(0.06)
        show("frames", 2, 300, "25.0 frames/s")
        show("frames", 3, 300)
        time.sleep(0.06)
        show("frames", 4, None)
    assert capsys.readouterr().err == "  frames 2/300, 25.0 frames/s\n  frames 4\n"


def test_there_is_one_console() -> None:
    assert console() is console()


def test_names_of_phases_are_no_markup() -> None:
    code = (
        "from pixelrt import progress\n"
        "with progress.showing_progress() as show:\n"
        "    show('engine [left] of net[/x]', 1, 3, 'at [bold]once')\n"
    )
    code, said = on_a_terminal(code)
    assert code == 0, said
    assert "engine [left] of net[/x]" in said and "at [bold]once" in said
