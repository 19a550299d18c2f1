"""A recipe: the TOML file that says what to build from what, and which gates it must pass."""

from pixelrt_export.recipe.generation import (
    INPUTS,
    GenerationGateSection,
    GenerationRecipe,
    ImageSection,
    LabelSection,
    LatentSection,
    MaskSection,
    OutputSection,
)
from pixelrt_export.recipe.reading import read_recipe, without_gate
from pixelrt_export.recipe.sections import (
    AsInTraining,
    ModelSection,
    PrecisionSection,
    Recipe,
    TargetSection,
)
from pixelrt_export.recipe.segmentation import GateSection, HeadSection, InputSection, SegmentationRecipe

__all__ = [
    "INPUTS",
    "AsInTraining",
    "GateSection",
    "GenerationGateSection",
    "GenerationRecipe",
    "HeadSection",
    "ImageSection",
    "InputSection",
    "LabelSection",
    "LatentSection",
    "MaskSection",
    "ModelSection",
    "OutputSection",
    "PrecisionSection",
    "Recipe",
    "SegmentationRecipe",
    "TargetSection",
    "read_recipe",
    "without_gate",
]
