"""A test server in a process of its own, which is started, killed and started again."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any, TypeVar

HOST = "127.0.0.1"
_READY = "ready"
Own = TypeVar("Own", bound="ServerProcess")


class ServerProcess:
    """Runs `script` with `settings` as its argument, JSON, until `kill`. It has to `say_ready` first."""

    script: str
    what: str
    """For messages."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, self.script, json.dumps(self.settings)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if line != _READY:
            self.kill()
            raise RuntimeError(f"the {self.what} server did not start: {line!r}")

    def tell(self, command: str) -> None:
        """A line for its standard input."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()


def say_ready() -> None:
    """To the test that waits for this process."""
    print(_READY, flush=True)  # noqa: T201 -- the parent waits for it


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])
