"""Reading `manifest.json`, strictly: every surprise is an error that names its key."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pixelrt.errors import ManifestError
from pixelrt.manifest.base import SCHEMA, Task
from pixelrt.manifest.generation import GenerationManifest
from pixelrt.manifest.segmentation import SegmentationManifest
from pixelrt.strict import SurpriseError, decode


def manifest_from_json(text: str) -> SegmentationManifest | GenerationManifest:
    """Read a manifest.

    Raises:
        ManifestError: If the text is no JSON, has another schema number, an unknown or missing key, or a
            value of another type; the message names the key.
    """
    try:
        data = json.loads(text)
    except ValueError as problem:
        raise ManifestError(f"manifest.json is not JSON ({problem}); export the bundle again") from problem
    data = data if isinstance(data, dict) else {}
    if (found := data.get("schema")) != SCHEMA:
        raise ManifestError(
            f"manifest.json has schema {found!r}, this PixelRT reads schema {SCHEMA}; "
            "export the bundle again, or use the PixelRT that wrote it"
        )
    try:
        kind = decode(_Kind, {"task": data["task"]} if "task" in data else {})
        if kind.task == "generation":
            return decode(GenerationManifest, data)
        return decode(SegmentationManifest, data)
    except SurpriseError as problem:
        raise ManifestError(f"manifest.json: {problem}; export the bundle again") from problem


@dataclass(frozen=True, slots=True)
class _Kind:
    """What decides how the rest of a manifest is read."""

    task: Task
