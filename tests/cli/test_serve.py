"""`pixelrt serve` and the live side of `pixelrt run`, as a person uses them: real processes and terminals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import pytest
from live_server import LiveServer
from prometheus_client.parser import text_string_to_metric_families
from server_process import free_port
from websockets.sync.client import connect

from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.video.sources import open_source

DRIVE = "test://drive?frames=12&size=64x96&fps=40"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> str:
    return str(make_bundle().path)


class Running:
    """A command in a process of its own; what it says on standard error goes into a file."""

    def __init__(self, words: Sequence[str], file: IO[str]) -> None:
        self._file = file
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pixelrt", *words],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # as it is for users
        )

    @property
    def said(self) -> str:
        """Everything so far."""
        return os.pread(self._file.fileno(), 1_000_000, 0).decode()

    def wait_for(self, pattern: str) -> str:
        """The first group of what it says."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.said)) is None:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)
        return found[1]

    def end(self, number: signal.Signals | None = signal.SIGINT) -> tuple[int, str]:
        """Stop it, or wait for its end: its exit code and its standard output."""
        if number is not None:
            self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, output

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def running(*words: str) -> Iterator[Running]:
    with tempfile.TemporaryFile("w+") as file:
        command = Running(words, file)
        try:
            yield command
        finally:
            command.close()


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def status_after_a_frame(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        status: dict[str, Any] = json.loads(read(f"{url}api/status"))
        if status["cameras"] and all(
            (camera.get("numbers") or {}).get("delivered", 0) > 12 for camera in status["cameras"]
        ):
            return status
        assert time.monotonic() < deadline
        time.sleep(0.05)


def delivered(status: dict[str, Any]) -> int:
    """How many results of the first camera."""
    return int(status["cameras"][0]["numbers"]["delivered"])


def title_of(url: str) -> str:
    with connect(f"ws{url.removeprefix('http')}live", proxy=None) as page:
        hello = json.loads(page.recv(timeout=30))
    assert hello["type"] == "hello"
    return str(hello["title"])


def test_the_page_shows_what_runs_until_ctrl_c(bundle: str) -> None:
    other = DRIVE.replace("40", "30")
    with running("serve", bundle, DRIVE, other, "--port", "0", "--loop") as command:
        url = command.wait_for(r"live page: (http://127\.0\.0\.1:\d+/)\n")
        assert title_of(url) == "colors"
        cameras = status_after_a_frame(url)["cameras"]  # more frames than the drive has: it is repeated
        code, output = command.end()
        said = command.said
    assert [camera["name"] for camera in cameras] == ["drive", "drive-2"]
    assert (code, "then interrupted" in output) == (130, True)
    assert "drive: 64x96, nominally 40 frames/s" in said
    assert "ended" not in said
    assert "Traceback" not in said
    assert f"\n  sink web://127.0.0.1:{urlsplit(url).port} " in output
    with pytest.raises(urllib.error.URLError):
        read(url)


def test_without_loop_it_ends_with_the_source(bundle: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    began = time.monotonic()
    with running("serve", bundle, DRIVE, "--port", "0", "--json", f"{figures}") as command:
        code, output = command.end(None)
    assert (code, time.monotonic() - began >= 11 / 40) == (0, True)
    report = json.loads(figures.read_text())
    [source] = report["sources"]
    assert (report["policy"], source["live"], source["captured"]) == ("latest", True, 12)
    assert source["captured"] == source["frames"] + sum(source["dropped"].values())
    assert f"\n  {figures}\n" in output


def test_other_machines_need_the_token(bundle: str) -> None:
    with running("serve", bundle, DRIVE, "--loop", "--port", "0", "--host", "0.0.0.0") as command:
        url = command.wait_for(r"live page: (\S+)\n")
        assert "token=" in url
        port = int(re.search(r":(\d+)/", url)[1])  # type: ignore[index]
        with pytest.raises(urllib.error.HTTPError, match=r"401|403"):
            read(f"http://127.0.0.1:{port}/api/status")
        assert command.end(signal.SIGTERM)[0] == 143


def test_metrics_while_it_runs(bundle: str, tmp_path: Path) -> None:
    drive = "test://drive?frames=1000000&size=64x96"
    with running("run", bundle, drive, "--metrics", ":0", "--out", f"{tmp_path}/out.mp4") as command:
        url = command.wait_for(r"metrics: (http://127\.0\.0\.1:\d+/metrics)\n")
        deadline, delivered = time.monotonic() + PATIENCE_S, 0.0
        while delivered < 3:
            assert time.monotonic() < deadline
            families = {family.name: family for family in text_string_to_metric_families(read(url))}
            delivered = families["pixelrt_frames_delivered"].samples[0].value
        assert command.end()[0] == 130
    [info] = families["pixelrt_info"].samples
    assert (info.labels["bundle"], info.labels["backend"]) == ("colors", "openvino")
    assert families["pixelrt_sink_written"].samples[0].labels == {"sink": f"{tmp_path}/out.mp4"}
    with pytest.raises(urllib.error.URLError):
        read(url)
    with open_source(tmp_path / "out.mp4") as written:
        assert len(list(written)) >= 3


def test_a_run_of_several_sources(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", bundle, DRIVE, f"{DRIVE}&seed=3", "--limit", "4", "--sheet", "{source}.png"]
    assert main([*words, "--out", "{source}.mp4", "--out", "null:"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("8 frames of 64x96 in ")
    assert re.search(r"\n  drive +4 +4 +- +- +0\n  drive-2 +4 +4 +- +- +0\n", shown)
    assert shown.count("labels in the classes sky") == 2
    assert "Written\n  drive.mp4\n  drive-2.mp4\n  drive.png\n  drive-2.png\n" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "drive-2.mp4",
        "drive-2.png",
        "drive.mp4",
        "drive.png",
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([DRIVE, "--out", "null:", DRIVE], 2, "every SOURCE stands next to the other ones"),
        ([DRIVE, DRIVE, "--sheet", "s.png"], 2, "put {source} in it, such as s-{source}.png"),
        ([DRIVE, "--metrics", "9090"], 2, "did you mean :9090?"),
        ([DRIVE, "--metrics", "203.0.113.1:9090"], 1, "that is not this machine"),
        ([DRIVE, "--policy", "newest"], 2, "--policy cannot be 'newest'"),
        ([DRIVE, "--out", "web://nowhere.invalid:0"], 1, "nowhere.invalid"),
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
    assert shown.out == ""
    assert not list(tmp_path.iterdir())


def test_a_library_that_is_missing_is_named(
    bundle: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["run", bundle, DRIVE, "--metrics", ":0"]) == 1
    assert "pip install 'pixelrt[metrics]'" in capsys.readouterr().err


def on_a_terminal(words: list[str], until: str) -> tuple[int, str]:
    """Run with a terminal for standard error, and Ctrl-C when it says something: exit code, what it said."""
    ours, theirs = pty.openpty()
    environment = dict(os.environ, TERM="xterm", COLUMNS="100", LINES="30")
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pixelrt", *words],
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            env=environment,
        )
        os.close(theirs)
        shown, deadline = "", time.monotonic() + PATIENCE_S
        while process.poll() is None:
            assert time.monotonic() < deadline, shown
            if select.select([ours], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # Linux says so when the other end has closed
                    shown += os.read(ours, 65536).decode()
            if until in shown:
                process.send_signal(signal.SIGINT)
                until = "\0"
        return process.wait(), shown
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def test_a_terminal_shows_the_panel_of_live_sources(bundle: str) -> None:
    words = ["serve", bundle, DRIVE, "--loop", "--port", "0", "--watchdog", "0.0001"]
    code, shown = on_a_terminal(words, until="capture to delivery")
    assert code == 130
    for text in ("colors on openvino", "in/s", "● ok", "milliseconds", "web://127.0.0.1:", "no result for"):
        assert text in shown
    assert "\x1b[?25h" in shown.rsplit("capture to delivery", 1)[1]  # the cursor is back


def test_a_terminal_shows_a_bar_for_files(bundle: str) -> None:
    code, shown = on_a_terminal(
        ["run", bundle, "test://drive?frames=1000000&size=64x96"], until="frames/s, p50"
    )
    assert code == 130
    assert "/1000000" in shown
    assert "in/s" not in shown


@pytest.mark.parametrize("out", ["-", "jsonl:"])
def test_results_on_standard_output_are_alone_there(
    bundle: str, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    assert main(["run", bundle, DRIVE, "--out", out, "--limit", "3"]) == 0
    shown = capsys.readouterr()
    assert [json.loads(line)["index"] for line in shown.out.splitlines()] == [0, 1, 2]
    assert "3 frames of 64x96 in " in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--port 99999", "--port: '99999' is no port; give 1 to 65535, or 0 for any that is free"),
        ("--port http", "--port: 'http' is no port"),
        ("--token a", "--token: the token has 1 character, expected at least 12"),
    ],
)
def test_wrong_values_of_the_page(
    bundle: str, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert main(["serve", bundle, "nowhere.mp4", *words.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_does_not_wait_for_a_camera_that_is_opened(bundle: str, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://me:secret@127.0.0.1:{silent.getsockname()[1]}/video#connect=600&stall=600"
        with running("run", bundle, url) as command:
            client, _ = silent.accept()
            with client:
                waited_for = command.wait_for(r"waiting for (\S+)\n")
                code, _ = command.end(number)
            assert code == 128 + number
            assert "interrupted before the first frame" in command.said
            assert "127.0.0.1" in waited_for
            assert "secret" not in command.said


def test_an_address_for_metrics_is_checked_first(bundle: str) -> None:
    """The source is not opened: it is not there, and that is not what is said."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with running("run", bundle, "no.mp4", "--metrics", place) as command:
            assert command.end(None)[0] == 1
            assert f"cannot listen at {place}" in command.said


def test_a_reader_that_goes_ends_a_live_run(bundle: str) -> None:
    with LiveServer("http") as server, running("run", bundle, f"{server.url}/mjpeg", "--out", "-") as command:
        stop_reading(command)
        assert command.end(None)[0] == 141
        assert "error" not in command.said


def test_the_page_goes_on_without_the_reader(bundle: str) -> None:
    words = ("serve", bundle, DRIVE, "--port", "0", "--loop", "--out", "jsonl:")
    with running(*words) as command:
        url = command.wait_for(r"live page: (http://127\.0\.0\.1:\d+/)\n")
        stop_reading(command)
        command.wait_for(r"(jsonl:: sink_failed: whoever read standard output has gone)\n")
        before = delivered(status_after_a_frame(url))
        while delivered(status_after_a_frame(url)) == before:
            assert command.process.poll() is None, command.said
        assert command.end()[0] == 141
        assert "error" not in command.said


def stop_reading(command: Running) -> None:
    assert command.process.stdout is not None
    assert json.loads(command.process.stdout.readline())["index"] >= 0
    command.process.stdout.close()
    command.process.stdout = None


def test_a_reader_that_goes_ends_the_run(bundle: str) -> None:
    with running("run", bundle, "test://drive?frames=1000000&size=64x96", "--out", "-") as command:
        stop_reading(command)
        assert command.end(None)[0] == 141
        assert "error" not in command.said


def test_a_reader_that_does_not_read_holds_nothing_else_up(bundle: str) -> None:
    """`--out jsonl: | less`: lines of state still come, and so do signals."""
    words = ("serve", bundle, DRIVE, "--port", "0", "--loop", "--log", "0.2", "--out", "jsonl:")
    with running(*words) as command:
        assert command.process.stdout is not None
        fcntl.fcntl(command.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        url = command.wait_for(r"live page: (http://127\.0\.0\.1:\d+/)\n")
        deadline = time.monotonic() + PATIENCE_S
        while not (before := status_after_a_frame(url))["sinks"][0]["dropped"]:  # the pipe is full
            assert time.monotonic() < deadline
            time.sleep(0.05)
        lines = command.said.count("\n")
        while (
            command.said.count("\n") < lines + 5
            or delivered(status_after_a_frame(url)) < delivered(before) + 40
        ):
            assert time.monotonic() < deadline, command.said
            time.sleep(0.05)
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(20) == 143


def test_a_page_is_there_before_its_camera_is(bundle: str) -> None:
    port = free_port()
    camera = f"tcp://127.0.0.1:{port}#wait=yes&backoff=0.05&backoff_most=0.1"
    with running("serve", bundle, camera, "--port", "0") as command:
        url = command.wait_for(r"live page: (http://127\.0\.0\.1:\d+/)\n")
        command.wait_for(r"(reconnecting)")
        [before] = json.loads(read(f"{url}api/status"))["cameras"]
        with LiveServer("tcp", port, fps=25):
            status_after_a_frame(url)
        code, output = command.end()
        said = command.said
    assert before["numbers"]["health"]["state"] == "reconnecting", before
    assert code == 130
    assert ": waited for\n" in said
    assert "Traceback" not in said + output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_camera(bundle: str, number: signal.Signals, tmp_path: Path) -> None:
    camera = f"tcp://127.0.0.1:{free_port()}#wait=yes&backoff=60&backoff_most=60"
    with running("run", bundle, camera, "--out", f"{tmp_path}/out.mp4") as command:
        command.wait_for(r"(reconnecting)")
        code, _ = command.end(number)
        said = command.said
    assert code == 128 + number
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_camera_that_is_not_there_does_not_keep_the_others_back(bundle: str, tmp_path: Path) -> None:
    camera = f"tcp://127.0.0.1:{free_port()}"
    with running("run", bundle, camera, f"{tmp_path}/none.mp4", DRIVE, "--keep-going") as command:
        command.wait_for(r"warning: tcp://\S+: (connection refused)")
        command.wait_for(r"(; it is waited for)")
        command.wait_for(r"drive: (ended)")
        code, output = command.end()
        said = command.said
    assert code == 1, "one is missing"
    assert f"left out: {tmp_path}/none.mp4 does not exist" in said
    assert re.search(r"drive\b.*\b12\b", output)
