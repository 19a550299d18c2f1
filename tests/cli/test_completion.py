"""`pixelrt completion`: scripts that the shells accept and that know the commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pixelrt.cli import main
from pixelrt.cli.entry import COMMANDS

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_knows_the_commands(shell: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name in COMMANDS:
        assert name in script
    program = shutil.which(shell)
    if program is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([program, "-n", str(tmp_path / "script")], check=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("pixelrt", "ins"), {"inspect"}),
        (("pixelrt", "bench", "--fra"), {"--frames"}),
        (("pixelrt", "bench", "x", "--device", "c"), {"cpu", "cuda"}),
        (("pixelrt", "generate", "x", "--mode", "s"), {"slerp"}),
        (("pixelrt", "generate", "x", "--latents", "mod"), {"model.onnx"}),
        (("pixelrt", "inspect", "mod"), {"model.onnx"}),
    ],
)
def test_bash_completes(words: tuple[str, ...], expected: set[str], tmp_path: Path, capsys: Capture) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "script").write_text(capsys.readouterr().out)
    typed = " ".join(f"'{word}'" for word in words)
    line = (
        f"source ./script; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; "
        f"_shtab_pixelrt pixelrt '{words[-1]}' '{words[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(
        [bash, "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert expected == set(done.stdout.split())


def test_an_unknown_shell(capsys: Capture) -> None:
    assert main(["completion", "bsh"]) == 2
    assert "SHELL cannot be 'bsh' (did you mean 'bash'?)" in capsys.readouterr().err
