"""All that knows TensorRT: flavours and versions, building, and what an engine file is.

building    what callers use: build_engine, build_bundle, dry_run
process     the child process in which TensorRT runs; protocol: what the two tell each other
worker      the child's main; it uses library, targets, network and builder
header      what an engine file says about itself, without TensorRT and without a GPU

Importing this imports no TensorRT: that happens in the child.
"""

from __future__ import annotations

import logging

from pixelrt.trt.building import (
    BuildOptions,
    BuiltEngine,
    DryRun,
    build_bundle,
    build_engine,
    choose_flavour,
    dry_run,
)
from pixelrt.trt.header import EngineHeader, inspect_engine
from pixelrt.trt.library import FLAVOURS, Flavour, installed_flavours
from pixelrt.trt.network import NodeProblem
from pixelrt.trt.profiles import Profile, ShapeRange, profile_of
from pixelrt.trt.targets import LOCAL, RTX_TARGETS, default_targets

__all__ = [
    "FLAVOURS",
    "LOCAL",
    "RTX_TARGETS",
    "BuildOptions",
    "BuiltEngine",
    "DryRun",
    "EngineHeader",
    "Flavour",
    "NodeProblem",
    "Profile",
    "ShapeRange",
    "build_bundle",
    "build_engine",
    "choose_flavour",
    "default_targets",
    "dry_run",
    "inspect_engine",
    "installed_flavours",
    "profile_of",
]

# TensorRT's own messages are there for whoever configures logging; what went wrong is in the exception.
logging.getLogger(__name__).addHandler(logging.NullHandler())
