"""All that knows TensorRT: flavours and versions, building, and what an engine file is.

building    what callers use: build_engine, build_bundle, dry_run; options: what they take
examining   what an engine says of itself once it is loaded, in a child process
header      what an engine file says about itself, without TensorRT and without a GPU
process     the child process in which TensorRT runs; protocol: what the two tell each other
worker      the child's main; it uses library, targets, network, builder with settings and timing_cache, and
            inspection
refitting   puts weights into a loaded engine that was built without them
messages    what TensorRT logged, for the thread that caused it

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
from pixelrt.trt.examining import examine_engine
from pixelrt.trt.header import EngineHeader, inspect_engine
from pixelrt.trt.library import FLAVOURS, Flavour, installed_flavours
from pixelrt.trt.network import NodeProblem
from pixelrt.trt.options import EngineOptions
from pixelrt.trt.profiles import Profile, ShapeRange, profile_of
from pixelrt.trt.protocol import EngineFacts
from pixelrt.trt.refitting import refit
from pixelrt.trt.targets import LOCAL, RTX_TARGETS, default_targets

__all__ = [
    "FLAVOURS",
    "LOCAL",
    "RTX_TARGETS",
    "BuildOptions",
    "BuiltEngine",
    "DryRun",
    "EngineFacts",
    "EngineHeader",
    "EngineOptions",
    "Flavour",
    "NodeProblem",
    "Profile",
    "ShapeRange",
    "build_bundle",
    "build_engine",
    "choose_flavour",
    "default_targets",
    "dry_run",
    "examine_engine",
    "inspect_engine",
    "installed_flavours",
    "profile_of",
    "refit",
]

# TensorRT's own messages are there for whoever configures logging; what went wrong is in the exception.
logging.getLogger(__name__).addHandler(logging.NullHandler())
