"""The service and the containers: each word against the real command line; the service's command is run."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import socket
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import needs
import pytest
import yaml

from pixelrt.bundle import Bundle
from pixelrt.cli.entry import build_parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
UNIT = DEPLOY / "pixelrt@.service"
PIXELRT = Path(sys.executable).with_name("pixelrt")
CONTAINERS = sorted(DEPLOY.glob("Containerfile.*"))
LIMIT_S = 120

MakeBundle = Callable[..., Bundle]


# --- the service -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser


def environment_file() -> dict[str, str]:
    lines = (DEPLOY / "front.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def command(unit: configparser.ConfigParser, environment: dict[str, str]) -> list[str]:
    """The words of ExecStart as systemd makes them: `${NAME}` is one word, a bare `$NAME` is split."""
    words: list[str] = []
    for word in unit["Service"]["ExecStart"].split():
        if re.fullmatch(r"\$\w+", word):
            words += environment[word[1:]].split()
        else:
            words.append(string.Template(word).substitute(environment))
    return words


def accepted(words: list[str]) -> object:
    """The arguments, of a command line that has every option."""
    parser, _ = build_parser(only=words[0])
    return parser.parse_args(words)


def test_the_service_starts_what_the_command_line_takes(unit: configparser.ConfigParser) -> None:
    environment = environment_file()
    program, *words = command(unit, environment)
    assert program == "/opt/pixelrt/bin/pixelrt"
    arguments = accepted(words)
    assert vars(arguments)["sources"] == [environment["SOURCE"]]
    assert vars(arguments)["out"] == ["systemd:"]
    assert not re.search("--[a-z-]*password|token", UNIT.read_text())
    used = set(re.findall(r"\$\{?([A-Z]+)", unit["Service"]["ExecStart"]))
    assert used == set(environment)


def test_systemd_understands_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        needs.missing("systemd-analyze")
    copied = tmp_path / UNIT.name
    copied.write_text(UNIT.read_text().replace("/opt/pixelrt/bin/pixelrt", str(PIXELRT)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copied)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    exposure = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(copied)]
    done = subprocess.run(exposure, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_service_is_ready_alive_and_ends_as_the_unit_says(
    unit: configparser.ConfigParser, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(emit=("mask",)).path
    source = "test://drive?frames=100000&size=64x96"
    changed = {"BUNDLE": str(bundle), "SOURCE": source, "PORT": "0", "OPTIONS": "--deadline 5 --device cpu"}
    _, *words = command(unit, changed)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(LIMIT_S)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen(
            [str(PIXELRT), *words], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
        ) as service:
            try:
                first = systemd.recv(4096).decode()
                second = systemd.recv(4096).decode()
                service.send_signal(signal.SIGTERM)
                _, said = service.communicate(timeout=LIMIT_S)
            finally:
                service.kill()
        last = systemd.recv(4096).decode()
        while "WATCHDOG" in last:
            last = systemd.recv(4096).decode()
    assert first.startswith("READY=1\nWATCHDOG=1\nSTATUS=")
    assert second.startswith("WATCHDOG=1\n")
    assert last == "STOPPING=1"
    assert str(service.returncode) in unit["Service"]["SuccessExitStatus"].split(), said


# --- containers --------------------------------------------------------------------------------------------


def instructions(file: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", file.read_text()))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("file", CONTAINERS, ids=lambda file: file.suffix[1:])
def test_containers_hold_what_they_need_and_no_more(file: Path) -> None:
    steps = instructions(file)
    images = [value.split()[0] for step, value in steps if step == "FROM"]
    assert len(images) == 2 and len(set(images)) == 1
    assert re.search(r":[^:]*\d[^:]*$", images[0])
    for sources in (shlex.split(value)[:-1] for step, value in steps if step == "COPY"):
        for source in sources:
            assert (ROOT / source).exists(), source
    (extras,) = re.findall(r"pixelrt-\*\.whl\)\[([\w,]+)\]", file.read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    for extra in extras.split(","):
        assert extra in known
        assert not any(re.match(r"(torch|pixelrt\[)", requirement) for requirement in known[extra])
    assert {"video", "web", "metrics", "cli"} <= set(extras.split(","))
    assert [value for step, value in steps if step == "USER"] == ["pixelrt"]
    entry = next(value for step, value in steps if step == "ENTRYPOINT")
    assert Path(yaml.safe_load(entry)[0]).name == "pixelrt"
    accepted(yaml.safe_load(next(value for step, value in steps if step == "CMD")))


def test_compose_names_real_files_and_options() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(compose["services"]) == {"cpu", "jetson"}
    for service in compose["services"].values():
        context = (DEPLOY / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]) in CONTAINERS
        arguments = vars(accepted([re.sub(r"\$\{(\w+).*\}", r"\1", word) for word in service["command"]]))
        assert (arguments["bundle"], arguments["sources"]) == ("/bundle", ["PIXELRT_SOURCE"])
        assert (arguments["host"], arguments["token"]) == ("0.0.0.0", "PIXELRT_TOKEN")
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["read_only"] and service["cap_drop"] == ["ALL"]


def test_the_page_names_every_file_and_its_commands_are_real() -> None:
    page = (DEPLOY / "README.md").read_text()
    for file in DEPLOY.iterdir():
        if file.name != "README.md":
            assert f"`{file.name}`" in page, file
    for words in re.findall(r"(?m)^\s*(?:/opt/pixelrt/bin/)?pixelrt ((?:serve|run|doctor).*)$", page):
        accepted(shlex.split(words))
    for path in re.findall(r"examples/deploy/([\w.@-]+)", page):
        assert (DEPLOY / path).exists(), path
