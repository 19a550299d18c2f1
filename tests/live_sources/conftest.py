"""What several tests of network sources share."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import needs
import pytest

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
