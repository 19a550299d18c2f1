"""`pixelrt COMMAND @FILE`: arguments from a file, and messages that keep the secrets of those."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pixelrt.cli import main
from pixelrt.cli.parser import UsageError, with_files

Capture = pytest.CaptureFixture[str]

EXPECTED = "expected a file with one argument a line"
CAMERA = "rtsp://admin:geheim@camera:554/live"


def written(folder: Path, content: str | bytes) -> str:
    path = folder / "front.arguments"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"@{path}"


def test_a_file_holds_one_argument_a_line_as_it_is(tmp_path: Path) -> None:
    lines = (
        "\ufeff# the bundle",
        "/opt/my bundles/road-unet",
        "",
        "  # indented, too",
        f"  {CAMERA}#transport=tcp  ",
        "gst://rtspsrc location='a b' ! decodebin",
        "--port=8080\r",
        "--out",
        "front-{time}.mp4",
        "--title=a b@c",
        "-",
    )
    word = written(tmp_path, "\n".join(lines))
    assert with_files(["serve", word, "--log", "60"]) == [
        "serve",
        "/opt/my bundles/road-unet",
        f"{CAMERA}#transport=tcp",
        "gst://rtspsrc location='a b' ! decodebin",
        "--port=8080",
        "--out",
        "front-{time}.mp4",
        "--title=a b@c",
        "-",
        "--log",
        "60",
    ]


def test_several_files_stand_where_they_are_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    assert with_files([f"@{tmp_path}/two", "x", f"@{tmp_path}/one"]) == ["two", "x", "one"]


def test_an_at_sign_elsewhere_names_no_file() -> None:
    words = ["run", "b", "rtsp://user@host/live", "user@host", "--token=@twelve-characters", ""]
    assert with_files(words) == words


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd here")
def test_a_pipe_is_a_file() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"serve\nbundle\n")
        os.close(writing)
        assert with_files([f"@/dev/fd/{reading}"]) == ["serve", "bundle"]
    finally:
        os.close(reading)


def test_the_command_may_stand_in_the_file(tmp_path: Path, capsys: Capture) -> None:
    assert main([written(tmp_path, "doctor\nnowhere\n")]) == 1
    assert capsys.readouterr().err.startswith("error: nowhere is not a bundle")


def test_the_option_for_tracebacks_may_stand_in_the_file(tmp_path: Path, capsys: Capture) -> None:
    assert main(["doctor", written(tmp_path, "nowhere\n--traceback\n")]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"bundle\n@other\n", "line 2 begins with @, and a file of arguments cannot name another one"),
        (
            b"# --port 80\n--port 8080\n",
            "line 2 holds more than one argument: a line is one; write --port=VALUE",
        ),
        (b"\xff\xfe\x00", f"is no text in UTF-8 of 1 MiB at most; {EXPECTED}"),
        (b"a\x00b", f"is no text in UTF-8 of 1 MiB at most; {EXPECTED}"),
        (b"a" * (1 << 20) + b"a", f"is no text in UTF-8 of 1 MiB at most; {EXPECTED}"),
    ],
    ids=["another", "two", "binary", "zero", "large"],
)
def test_what_is_no_file_of_arguments(content: bytes, message: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["serve", written(tmp_path, content)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: @{tmp_path}/front.arguments")
    assert message in said
    assert said.count("\n") == 1


def test_a_file_of_the_largest_size(tmp_path: Path) -> None:
    assert with_files([written(tmp_path, b"a" * (1 << 20))]) == ["a" * (1 << 20)]


def test_a_file_cannot_name_itself(tmp_path: Path, capsys: Capture) -> None:
    word = written(tmp_path, f"@{tmp_path}/front.arguments")
    assert main(["serve", word]) == 2
    assert "cannot name another one" in capsys.readouterr().err


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, reason in ((tmp_path / "missing", "No such file or directory"), (tmp_path, "Is a directory")):
        assert main(["serve", f"@{path}"]) == 2
        assert capsys.readouterr().err == f"error: @{path} cannot be read ({reason}); {EXPECTED}\n"
    assert main(["serve", "@"]) == 2
    assert capsys.readouterr().err == f"error: @ cannot be read (No such file or directory); {EXPECTED}\n"

    def refuse(*_: object) -> object:  # chmod does not keep root out
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("pixelrt.cli.parser.open", refuse, raising=False)
    with pytest.raises(UsageError, match=r"^@/secret cannot be read \(Permission denied\); expected a file"):
        with_files(["@/secret"])


def test_help_names_it(capsys: Capture) -> None:
    for words in ([], ["run"], ["serve"]):
        assert main([*words, "--help"]) == 0
        assert "@FILE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["serve", "b", "rtsp://other/live", "--port", "0", CAMERA],
            "unexpected argument 'rtsp://camera:554/live'",
        ),
        (["serve", CAMERA, "bundle"], " is not a bundle: no such folder"),
        (["serve", "b", "0", "--port", CAMERA], "--port: 'rtsp://camera:554/live' is no "),
        (["serve", "b", "0", f"--port={CAMERA}"], "--port: "),
        (["serve", "b", "0", "--port", r"rtsp://admin:\geheim@camera/live"], "'rtsp://camera/live' is no "),
        ([CAMERA], "unknown command 'rtsp://camera:554/live'"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--traceback"]])
def test_a_password_in_the_wrong_place_is_in_no_message(
    words: list[str], message: str, more: list[str], tmp_path: Path, capsys: Capture
) -> None:
    code = main([*more, written(tmp_path, "\n".join(words))])
    said = capsys.readouterr().err
    assert code in (1, 2)
    assert said.startswith("Traceback" if more else "error: ")
    assert message in said
    assert "geheim" not in said and "admin" not in said


def test_messages_are_otherwise_as_they_are(capsys: Capture) -> None:
    assert main(["doctor", "user@host:80"]) == 1
    assert "error: user@host:80 is not a bundle" in capsys.readouterr().err
