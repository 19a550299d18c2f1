"""What of the machine a test needs, beyond Python.

Where it is missing the test is skipped; with PIXELRT_REQUIRE_LIVE=1, as in CI, it fails.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

SYSTEM_PACKAGES = "/usr/lib/python3/dist-packages"


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be missing."""
    if os.environ.get("PIXELRT_REQUIRE_LIVE") == "1":
        pytest.fail(f"{what} is missing, and PIXELRT_REQUIRE_LIVE=1", pytrace=False)
    pytest.skip(f"{what} is missing")


def compiler() -> str:
    """A C compiler."""
    return shutil.which("cc") or shutil.which("gcc") or missing("a C compiler")


def chromium() -> str:
    """A browser that Playwright drives."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None) or missing("Chromium")


def gstreamer() -> dict[str, str]:
    """GStreamer with its Python binding: the environment in which a child process has it."""
    environment = {**os.environ, "PYTHONPATH": SYSTEM_PACKAGES}
    return environment if _runs("Gst") else missing("GStreamer, or its Python binding (python3-gi)")


@functools.cache
def _runs(namespace: str) -> bool:
    program = f"import gi; gi.require_version({namespace!r}, '1.0'); from gi.repository import {namespace}"
    environment = {**os.environ, "PYTHONPATH": SYSTEM_PACKAGES}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    return done.returncode == 0


def gst_rtsp_server() -> None:
    """GStreamer's RTSP server with its Python binding, and an H.264 encoder."""
    if not _runs("GstRtspServer"):
        missing("GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-ugly)")


def faketime(clock: Path) -> dict[str, str]:
    """libfaketime: the environment in which the wall clock of a child process is off by what `clock` says."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        missing("libfaketime (Debian's package faketime)")
    return {
        **os.environ,
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
