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
from pixelrt.cli.parser import UsageError, with_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
UNIT = DEPLOY / "pixelrt@.service"
FRONT = DEPLOY / "front.arguments"
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


def command(unit: configparser.ConfigParser, credentials: Path) -> list[str]:
    """The words of ExecStart as systemd makes them: `${NAME}` is replaced within a word."""
    words = unit["Service"]["ExecStart"].split()
    return [string.Template(word).substitute(CREDENTIALS_DIRECTORY=str(credentials)) for word in words]


def accepted(words: list[str]) -> object:
    """The arguments, of a command line that has every option."""
    parser, _ = build_parser(only=words[0])
    return parser.parse_args(words)


def test_the_service_starts_what_the_command_line_takes(
    unit: configparser.ConfigParser, tmp_path: Path
) -> None:
    name, _, place = unit["Service"]["LoadCredential"].partition(":")
    assert place == "/etc/pixelrt/%i.arguments"
    shutil.copy(FRONT, tmp_path / name)
    program, *words = command(unit, tmp_path)
    assert program == "/opt/pixelrt/bin/pixelrt"
    arguments = vars(accepted(with_files(words)))
    assert (arguments["bundle"], arguments["out"]) == ("/opt/pixelrt/bundles/road-unet", ["systemd:"])
    assert [source.partition("://")[0] for source in arguments["sources"]] == ["rtsp"]
    assert (arguments["port"], arguments["log"], arguments["deadline"]) == (8080, 60, 0.5)


def test_what_the_file_of_arguments_proposes_is_taken_too(tmp_path: Path) -> None:
    proposed = re.sub("(?m)^#(?=--)", "", FRONT.read_text())
    assert proposed.count("\n--") > FRONT.read_text().count("\n--") > 0
    (tmp_path / "all").write_text(proposed)
    with pytest.raises(UsageError, match="--token: the token has"):
        accepted(with_files(["serve", f"@{tmp_path}/all"]))
    (tmp_path / "all").write_text(proposed.replace("CHANGE-ME", "2b5f8d1c9e07"))
    arguments = vars(accepted(with_files(["serve", f"@{tmp_path}/all"])))
    assert (arguments["out"], arguments["host"]) == (["front-{time}.mp4?segment=600"], "0.0.0.0")


def test_the_command_line_of_the_service_holds_no_secret(unit: configparser.ConfigParser) -> None:
    """Every user of the machine sees it, with the values of its variables."""
    variables = set(re.findall(r"\$\{?(\w+)", unit["Service"]["ExecStart"]))
    assert variables == {"CREDENTIALS_DIRECTORY"}
    assert "EnvironmentFile" not in unit["Service"]
    assert not re.search("--[a-z-]*(password|token)", UNIT.read_text())


def test_the_unit_closes_neither_devices_nor_its_own_credentials(unit: configparser.ConfigParser) -> None:
    """Before systemd 252 ProtectClock= allows the clock's device, and with it no other one.

    Before 254 perhaps only the first command of a service with DynamicUser= can read its credentials.
    """
    devices = {"DeviceAllow", "DevicePolicy", "PrivateDevices", "PrivateUsers", "ProtectClock"}
    compiling = {"MemoryDenyWriteExecute"}
    commands = {"ExecStartPre", "ExecCondition"}
    assert not (devices | compiling | commands) & set(unit["Service"])
    assert {"video", "render"} <= set(unit["Service"]["SupplementaryGroups"].split())


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
    source = "test://drive?frames=100000&size=64x96"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    options = "--port=0\n--deadline=5\n--device=cpu\n"
    bundle = make_bundle(emit=("mask",)).path
    (credentials / "arguments").write_text(f"# what is there\n{bundle}\n{source}\n\n{options}")
    _, *words = command(unit, credentials)
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
                seen = Path(f"/proc/{service.pid}/cmdline").read_text()
                service.send_signal(signal.SIGTERM)
                _, said = service.communicate(timeout=LIMIT_S)
            finally:
                service.kill()
        last = systemd.recv(4096).decode()
        while "WATCHDOG" in last:
            last = systemd.recv(4096).decode()
    assert source not in seen and str(credentials) in seen
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


def test_compose_names_real_files_and_options(tmp_path: Path) -> None:
    (tmp_path / "arguments").write_text("/bundle\n0\n--token=twelve-characters\n")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(compose["services"]) == {"cpu", "jetson"}
    for service in compose["services"].values():
        context = (DEPLOY / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]) in CONTAINERS
        words = [f"@{tmp_path}{word[1:]}" if word[0] == "@" else word for word in service["command"]]
        arguments = vars(accepted(with_files(words)))
        assert (arguments["bundle"], arguments["sources"]) == ("/bundle", ["0"])
        assert (arguments["host"], arguments["token"]) == ("0.0.0.0", "twelve-characters")
        assert any(volume.endswith(":/arguments:ro") for volume in service["volumes"])
        assert any(volume.endswith(":/bundle:ro") for volume in service["volumes"])
        assert "$" not in " ".join(service["command"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["read_only"] and service["cap_drop"] == ["ALL"]


def test_the_page_names_every_file_and_its_commands_are_real() -> None:
    page = (DEPLOY / "README.md").read_text()
    for file in DEPLOY.iterdir():
        if file.name != "README.md":
            assert f"`{file.name}`" in page, file
    commands = re.findall(r"(?m)(?:pixelrt|pixelrt:\w+) ((?:serve|run|doctor) .*)$", page)
    assert len(commands) >= 2
    for words in commands:
        accepted(with_files(re.sub(r"@\S+", f"@{FRONT}", words).split()))
    for path in re.findall(r"examples/deploy/([\w.@-]+)", page):
        assert (DEPLOY / path).exists(), path


def test_the_page_prepares_all_that_the_service_needs_before_it_starts_it(
    unit: configparser.ConfigParser,
) -> None:
    page = (DEPLOY / "README.md").read_text()
    blocks = "\n".join(re.findall(r"(?s)```\n(.*?)```", page))
    before, found, _ = blocks.partition("systemctl enable --now pixelrt@front")
    assert found
    bundle, *_ = with_files([f"@{FRONT}"])
    steps = {
        "the program": "python3 -m venv --system-site-packages /opt/pixelrt",
        "the bundle": f"/bundle {bundle}\n",
        "the file": "--mode 600 examples/deploy/front.arguments /etc/pixelrt/front.arguments\n",
        "the edit": "nano /etc/pixelrt/front.arguments\n",
        "the trial": "/opt/pixelrt/bin/pixelrt serve @/etc/pixelrt/front.arguments",
        "the unit": "examples/deploy/pixelrt@.service\nsystemctl daemon-reload\n",
    }
    places = [before.find(step) for step in steps.values()]
    assert -1 not in places, dict(zip(steps, places, strict=True))
    assert places == sorted(places)
    assert unit["Service"]["ExecStart"].startswith("/opt/pixelrt/bin/")
    assert not bundle.startswith(("/home", "/root", "/tmp"))
