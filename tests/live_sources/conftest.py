"""What several tests of network sources share."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import needs
import pytest
from live import every_frame_known

from pixelrt.video.live.ledger import Account

_REQUEST = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a key and a certificate of the camera's own making."""
    openssl = shutil.which("openssl") or needs.missing("openssl")
    file = tmp_path_factory.mktemp("tls") / "camera.pem"
    public = file.with_suffix(".crt")
    command = [openssl, *_REQUEST, "-keyout", file, "-out", public]
    subprocess.run(command, check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + public.read_bytes())
    return file


@pytest.fixture(autouse=True)
def unknown_frames() -> Iterator[list[Account]]:
    """Accounts of streams that ended with frames of which nobody knows; empty when the test is over."""
    with every_frame_known() as unknown:
        yield unknown
