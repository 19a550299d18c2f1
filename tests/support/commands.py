"""Commands as a user types them, and engines on which they take little time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(command: list[str], cwd: Path) -> str:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def quick_recipe(folder: Path, name: str = "road-unet", **changes: str) -> Path:
    """The folder of an engine where the README has it, with a gate on few images, or other changes."""
    copied = folder / "engines" / name
    shutil.copytree(ROOT / "engines" / name, copied, ignore=shutil.ignore_patterns("bundle"))
    recipe = copied / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    for found, other in (changes or {r"frames=\d+": "frames=3"}).items():
        text, changed = re.subn(found, other, text)
        assert changed == 1
    recipe.write_text(text, encoding="utf-8")
    return recipe
