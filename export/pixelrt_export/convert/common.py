"""What the manifests of both tasks are made of."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from pixelrt.manifest import SCHEMA, Preprocess, Source
from pixelrt_export.network import Network
from pixelrt_export.precision import PrecisionReport
from pixelrt_export.recipe import ImageSection, InputSection, Recipe
from pixelrt_export.write import tool_versions


def described(recipe: Recipe, network: Network, precision: PrecisionReport) -> dict[str, Any]:
    """The fields of a manifest of any task, but for its tensors and axes, and the gate."""
    return {
        "schema": SCHEMA,
        "name": recipe.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tools": tool_versions(),
        "precision": precision.to_manifest(),
        "artifacts": (),
        "source": Source(
            model=network.description,
            checkpoint_sha256=network.checkpoint_sha256,
            recipe=recipe.text,
        ),
    }


def preprocess(image: InputSection | ImageSection) -> Preprocess:
    """What a manifest says about the image that a network takes."""
    return Preprocess(
        size=image.size,
        channels=image.channels,
        mean=image.mean,
        std=image.std,
        color=image.frame_color,
    )
