"""Writes tensorrt_api.json: what the regular TensorRT's Python interface has, where it cannot be installed.

    python tests/trt/tensorrt_api.py

Of 10.x it reads the public stubs (PyPI, tensorrt-stubs). Of 11 there are none, so it looks for every name
that 10.x has in the compiled bindings; those tell that a name is there, not of which class. Both are
downloaded and never installed, since they would pull TensorRT itself in.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

STUBS = ("10.8.0.43.1", "10.13.0.35.1")
BINDINGS = ("tensorrt-cu13-bindings", "11.4.0.106")
FILE = Path(__file__).with_suffix(".json")

Classes = dict[str, list[str]]


def download(package: str, version: str, member: str) -> bytes:
    """One file of a package's wheel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*command, f"{package}=={version}"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)


def members(stub: str) -> Classes:
    """Public attributes of every class, inherited ones too, and of the module as the class ``.

    By lines, since the stubs of some versions are no valid Python.
    """
    found: dict[str, set[str]] = {"": set()}
    kind, in_docstring = "", False
    for line in stub.splitlines():
        if line.count('"""') % 2:
            in_docstring = not in_docstring
        elif not in_docstring:
            if match := re.match(r"class (\w+)(?:\((\w+)\))?:", line):
                kind, base = match.groups()
                found[kind] = set(found.get(base, ()))
            if match := re.match(r"(?:class|def) (\w+)", line):
                found[""].add(match[1])
            if match := re.match(r"    (?:def |class )?(\w+)(?:\(|:| =)", line):
                found[kind].add(match[1])
    return {
        name: sorted(item for item in names if not item.startswith("__")) for name, names in found.items()
    }


def mentioned(binary: bytes, names: set[str]) -> list[str]:
    """The names among a binary's strings. A linker stores `x` as the end of `set_x` where it can."""
    return sorted(name for name in names if name.encode() + b"\0" in binary)


def main() -> None:
    """Write the file."""
    stubs: dict[str, Classes] = {}
    for version in STUBS:
        text = download("tensorrt-stubs", version, "tensorrt_bindings/tensorrt.pyi")
        stubs[version] = members(text.decode())
    known = {name for classes in stubs.values() for names in classes.values() for name in names}
    package, version = BINDINGS
    binary = download(package, version, "tensorrt_bindings/tensorrt.so")
    written = {"stubs": stubs, "mentioned": {version: mentioned(binary, known)}}
    FILE.write_text(json.dumps(written, indent=None, separators=(",", ":")).replace("],", "],\n") + "\n")


if __name__ == "__main__":
    main()
