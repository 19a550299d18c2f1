"""The command as a user meets it: real processes, their messages and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.cli.entry import COMMANDS, build_parser
from pixelrt.errors import GateFailed

NUMPY_ALONE = """
import sys

class OnlyNumpy:
    def find_spec(self, name, path=None, target=None):
        first = name.split(".")[0]
        if first in sys.stdlib_module_names or first in ("numpy", "pixelrt"):
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyNumpy())
"""


def pixelrt(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pixelrt", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "100", **environment},
        check=False,
    )


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, check=False
    )


class TestHelp:
    def test_the_version(self) -> None:
        done = pixelrt("--version")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("pixelrt 0.")

    def test_the_overview_lists_the_commands_and_exit_codes(self) -> None:
        done = pixelrt("--help")
        assert (done.returncode, done.stderr) == (0, "")
        for name in COMMANDS:
            assert f"\n    {name} " in done.stdout
        assert "3 the export's gate failed" in done.stdout

    def test_without_a_command_the_overview_goes_to_standard_error(self) -> None:
        done = pixelrt()
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage: pixelrt" in done.stderr

    def test_every_command_shows_examples_with_numpy_alone(self) -> None:
        code = NUMPY_ALONE + "from pixelrt.cli import main\nsys.exit(main(sys.argv[1:]))"
        for name in COMMANDS:
            done = python(code, name, "--help")
            assert (done.returncode, done.stderr) == (0, ""), name
            assert f"usage: pixelrt {name}" in done.stdout
            assert "examples:" in done.stdout
            assert f"pixelrt {name} " in done.stdout.split("examples:")[1]

    def test_every_option_is_explained(self) -> None:
        for name, parser in build_parser()[1].items():
            for action in parser._actions:
                assert action.help, f"pixelrt {name}: {action.dest} has no help"

    def test_the_way_to_the_command_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; before = set(sys.modules)\n"
            "import pixelrt.cli\n"
            "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
            "print(sorted(new - sys.stdlib_module_names))"
        )
        assert python(code).stdout.strip() == "['pixelrt']"

    @pytest.mark.parametrize("command", ["run", "generate"])
    def test_signals_are_taken_before_numpy_is_imported(self, command: str) -> None:
        """A library that is interrupted while it is imported may swallow the Ctrl-C."""
        code = f"import sys, pixelrt.cli.{command}; print('numpy' in sys.modules)"
        assert python(code).stdout.strip() == "False"


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("inpect",), "error: unknown command 'inpect' (did you mean 'inspect'?); choose from export"),
            (("zzzz",), "error: unknown command 'zzzz'; choose from export, build, run"),
            (("doctor", "--jsno"), "error: unknown option --jsno (did you mean '--json'?)"),
            (("bench", "b", "--frame=3"), "error: unknown option --frame (did you mean '--frames'?)"),
            (("inspect", "a", "b"), "error: unexpected argument 'b'"),
            (("inspect",), "error: the following arguments are required: PATH"),
            (("bench", "b", "--device", "cud"), "error: --device cannot be 'cud' (did you mean 'cuda'?)"),
            (("bench", "b", "--size", "720"), "error: --size: '720' is no size; give height x width"),
            (("bench", "b", "--frames", "0"), "error: --frames: '0' is no whole number of at least 1"),
            (("--verison",), "error: unknown option --verison (did you mean '--version'?)"),
        ],
    )
    def test_are_explained(self, words: tuple[str, ...], message: str) -> None:
        done = pixelrt(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(message)
        program = f"pixelrt {words[0]}" if words[0] in COMMANDS else "pixelrt"
        assert done.stderr.splitlines()[1] == f"try: {program} --help"


class TestErrors:
    def test_an_error_is_one_readable_line(self) -> None:
        done = pixelrt("doctor", "nowhere")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: nowhere is not a bundle: no such folder; expected the folder")
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("before", [True, False])
    def test_the_option_shows_the_traceback(self, before: bool) -> None:
        words = ("--traceback", "doctor", "nowhere") if before else ("doctor", "nowhere", "--traceback")
        done = pixelrt(*words)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: nowhere is not a bundle")

    @pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
    def test_the_environment_shows_the_traceback(self, value: str, shown: bool) -> None:
        done = pixelrt("doctor", "nowhere", PIXELRT_TRACEBACK=value)
        assert ("Traceback" in done.stderr) is shown

    def test_a_failed_gate_has_its_own_exit_code(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(arguments: object) -> int:
            raise GateFailed("agreement 0.9 is below 0.999")

        monkeypatch.setattr("pixelrt.cli.doctor.run", fail)
        assert main(["doctor"]) == 3
        assert capsys.readouterr().err == "error: agreement 0.9 is below 0.999\n"


class TestInterruption:
    def test_ctrl_c(self, make_bundle: Callable[..., Bundle]) -> None:
        code = (
            "import sys; from pixelrt.cli import main; print('on', flush=True); sys.exit(main(sys.argv[1:]))"
        )
        words = ["bench", str(make_bundle().path), "--frames", "1000000000"]
        command = [sys.executable, "-c", code, *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "on\n"
            time.sleep(3)
            process.send_signal(signal.SIGINT)
            said, complaint = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said == ""
        assert complaint.splitlines()[-1] == "interrupted"
        assert "Traceback" not in complaint

    def test_a_reader_that_goes_away(self, make_bundle: Callable[..., Bundle]) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pixelrt", "inspect", str(make_bundle().path)],
                stdout=writing,
                stderr=subprocess.PIPE,
                text=True,
                timeout=120,
                check=False,
            )
        finally:
            os.close(writing)
        assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [("doctor",), ("doctor", "--json"), ("doctor", "--self-test")])
def test_standard_output_that_is_full(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pixelrt", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert "error: standard output cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_the_installed_program_is_the_module() -> None:
    program = Path(sys.executable).with_name("pixelrt")
    if not program.exists():
        pytest.skip("PixelRT is not installed as a package here")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == pixelrt("--version").stdout
