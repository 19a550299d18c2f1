"""Engines that this machine built for itself, kept in the user's cache: built once, then found.

    $PIXELRT_CACHE, else $XDG_CACHE_HOME/pixelrt, else ~/.cache/pixelrt
        engines/              for this user alone (0700): an engine is native code
            lock              held by the process that builds; empty, and it stays
            KEY.engine        exactly what TensorRT returned
            KEY.json          what it is, and its SHA-256; written last: without it there is no entry

KEY is the SHA-256 of all that an engine depends on: the ONNX, shapes, every build option, flavour and version
of TensorRT, the GPU, and the numbers of the manifest's format and of this one. Engines are not the same bytes
in two builds, so it is made of what goes in. An entry is found without the lock and without writing.

One lock for all keys: builds side by side would spoil each other's timings, and could use up the memory of a
small GPU.

A folder in which nothing can be kept is an error before the build. If the disk refuses the engine after it,
the minutes are spent: there is a warning, and the engine is used without being kept.

Of one bundle name, on one GPU and with the same options, the three engines used last are kept, whatever their
ONNX and version of TensorRT: enough for two environments that take turns, and no more on a small disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pixelrt import __version__
from pixelrt.bundle import Bundle, sha256, write_file
from pixelrt.errors import BuildError, BundleError, InputError
from pixelrt.manifest import SCHEMA as MANIFEST_SCHEMA
from pixelrt.manifest import Artifact
from pixelrt.strict import decode
from pixelrt.trt.building import BuildOptions, BuiltEngine, build_engine, check_interface
from pixelrt.trt.gpu import LocalGpu
from pixelrt.trt.library import FLAVOURS, Flavour
from pixelrt.trt.process import Progress
from pixelrt.trt.profiles import Profile, ShapeRange, profile_of
from pixelrt.trt.targets import LOCAL

SCHEMA = 1
"""Number of the cache's format, and of how options become an engine. It is part of every key."""

WAITING = "Waiting for another process that builds an engine"
"""The phase that `progress` is told meanwhile."""

_NOT_IN_KEY = ("timing_cache", "device_index", "verbose")
"""Options that do not change the engine."""

_KEPT = 3
_LOOK_EVERY_S = 0.1
_LOG = logging.getLogger("pixelrt.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedEngine:
    """An engine for this machine."""

    content: bytes = field(repr=False)
    """Exactly what TensorRT returned."""
    artifact: Artifact
    """What it is, as a manifest would say it: flavour, version, targets, options, build seconds."""
    path: Path | None
    """Where it is kept; None if it could not be written, which was warned of."""
    built: bool
    """Whether it was built now, rather than found."""

    @property
    def seconds(self) -> float:
        """How long TensorRT took to build it, whenever that was."""
        return self.artifact.build_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """All that an engine depends on, as JSON holds it."""

    cache: int
    manifest: int
    model: str
    """SHA-256 of the ONNX."""
    flavour: Flavour
    version: str
    gpu: dict[str, Any]
    options: dict[str, Any]
    profile: dict[str, ShapeRange]

    @property
    def digest(self) -> str:
        return sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode())

    @property
    def title(self) -> str:
        return f"{FLAVOURS[self.flavour]} {self.version} on {self.gpu.get('name')} ({self.gpu.get('target')})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """What `KEY.json` says."""

    key: _Key
    name: str
    """Of the bundle."""
    artifact: Artifact
    pixelrt: str
    """The version that built it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """The place of one engine in the cache, and what makes it."""

    bundle: Bundle
    options: BuildOptions
    gpu: LocalGpu
    profile: Profile
    key: _Key
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "engines"

    @property
    def engine(self) -> Path:
        return self.folder / f"{self.key.digest}.engine"

    @property
    def sidecar(self) -> Path:
        return self.folder / f"{self.key.digest}.json"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def title(self) -> str:
        return f"{self.bundle.manifest.name} for {self.key.title}"

    @property
    def otherwise(self) -> str:
        """What to do where the cache cannot be used."""
        return (
            "PIXELRT_CACHE names another folder, or put the engine into a bundle that can be written: "
            f"pixelrt build {self.bundle.path} --target {self.options.targets[0]}"
        )


def cache_folder() -> Path:
    """Where PixelRT keeps what it can make again; $PIXELRT_CACHE, $XDG_CACHE_HOME and ~/.cache say where.

    Raises:
        InputError: If PIXELRT_CACHE is not absolute, or there is no home.
    """
    if chosen := os.environ.get("PIXELRT_CACHE"):
        if not os.path.isabs(chosen):
            raise InputError(f"PIXELRT_CACHE is {chosen!r}: an absolute path was expected")
        return Path(chosen)
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(caches):  # its specification: others are ignored
        return Path(caches) / "pixelrt"
    try:
        return Path.home() / ".cache" / "pixelrt"
    except RuntimeError as problem:
        raise InputError(
            "this user has no home directory for a cache; PIXELRT_CACHE names a folder, an absolute path"
        ) from problem


def private_folder(name: str, root: Path | None = None) -> Path:
    """A folder in the cache, made where it is missing, to which this user alone has access.

    Args:
        name: Of the folder.
        root: The cache; `cache_folder()` if left out.

    Raises:
        OSError: If it cannot be made.
        BuildError: If another user has access to it, or can write to the cache.
        InputError: If there is no place for a cache; see `cache_folder`.
    """
    root = cache_folder() if root is None else root
    folder = root / name
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    _check_private(folder)
    return folder


def _check_private(folder: Path) -> None:
    """Refuse a folder of the cache in which another user can put something.

    Its files have the modes that the user's umask gives them, so the folder has to be closed altogether.
    """
    for path, refused, mode in ((folder.parent, 0o022, "go-w"), (folder, 0o077, "700")):
        try:
            found = path.stat()
        except OSError:  # not there, or closed to us; whoever needs it finds out and says so
            continue
        if found.st_uid != os.geteuid():
            _refuse(path, f"belongs to the user {found.st_uid}, this is the user {os.geteuid()}", "")
        if found.st_mode & refused:
            what = f"is open to other users (mode {stat.S_IMODE(found.st_mode):o})"
            _refuse(path, what, f"close it with: chmod {mode} {path}; or ")


def _refuse(folder: Path, what: str, remedy: str) -> NoReturn:
    raise BuildError(
        f"{folder} {what}, and engines are native code that would run as you: it is not used; {remedy}"
        "PIXELRT_CACHE names another folder"
    )


def find_engine(
    bundle: Bundle,
    options: BuildOptions,
    *,
    version: str,
    gpu: LocalGpu,
    profile: Profile | None = None,
    folder: Path | None = None,
) -> CachedEngine | None:
    """Look for an engine without building it, waiting for it, or writing.

    An entry that is damaged, or one of another GPU or version where none fits, is told of in one warning.

    Args:
        bundle: Its ONNX is what the engine was built from; the file itself is not read.
        options: What the engine was built with, `verbose` aside.
        version: Version of the TensorRT that will load it.
        gpu: The GPU that will run it.
        profile: The shapes; those of the manifest's axes if left out.
        folder: The cache; `cache_folder()` if left out.

    Raises:
        BuildError: If somebody else can write to the cache.
        InputError: If the options name other targets than this GPU.
    """
    slot = _slot(bundle, options, version, gpu, profile, folder)
    found = _look(slot)
    if isinstance(found, CachedEngine):
        return found
    if reason := found or _unfitting(slot):
        _LOG.warning("%s; it is not used", reason)
    return None


def cached_engine(
    bundle: Bundle,
    options: BuildOptions,
    *,
    version: str,
    gpu: LocalGpu,
    profile: Profile | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> CachedEngine:
    """Find an engine, or build and keep it. Of several processes one builds, and the others wait for it.

    An entry that is damaged, or one of another GPU or version where none fits, is told of in one warning. If
    the disk refuses the engine that was built, there is a warning and the engine is returned.

    Args:
        bundle: Its ONNX is what the engine is built from.
        options: What to build it with; the target is this GPU's compute capability, or `local`.
        version: Version of the TensorRT that will load it, and must build it.
        gpu: The GPU that will run it.
        profile: The shapes; those of the manifest's axes if left out.
        folder: The cache; `cache_folder()` if left out.
        progress: Told of every step, those of the build and `WAITING`; if it raises, all is abandoned.

    Raises:
        BuildError: If TensorRT refuses, nothing can be kept in the cache, somebody else can write to it, or
            what was built is not for this version and GPU.
        BundleError: If the ONNX is damaged.
        InputError: If the options name other targets than this GPU, or the profile does not fit.
        MissingDependency: If this TensorRT is not installed.
        DeviceError: If a local engine is wanted and there is no GPU.
    """
    slot = _slot(bundle, options, version, gpu, profile, folder)
    found = _look(slot)
    if isinstance(found, CachedEngine):
        return found
    _prepare(slot)
    with _alone(slot, progress):
        found = _look(slot)
        if isinstance(found, CachedEngine):
            return found
        if reason := found or _unfitting(slot):
            _LOG.warning("%s; building it again", reason)
        return _build(slot, progress)


def _slot(
    bundle: Bundle,
    options: BuildOptions,
    version: str,
    gpu: LocalGpu,
    profile: Profile | None,
    folder: Path | None,
) -> _Slot:
    if options.targets != (LOCAL,) and gpu.target not in options.targets:
        raise InputError(
            f"targets {list(options.targets)} for {gpu.name}: its own, {gpu.target!r}, was expected"
        )
    profile = profile_of(bundle.manifest) if profile is None else profile
    return _Slot(
        bundle=bundle,
        options=options,
        gpu=gpu,
        profile=profile,
        key=_key(bundle, options, version, gpu, profile),
        root=cache_folder() if folder is None else folder.absolute(),
    )


def _key(bundle: Bundle, options: BuildOptions, version: str, gpu: LocalGpu, profile: Profile) -> _Key:
    facts = {
        "cache": SCHEMA,
        "manifest": MANIFEST_SCHEMA,
        "model": bundle.model.sha256,
        "flavour": options.flavour,
        "version": version,
        "gpu": dataclasses.asdict(gpu),
        "options": {
            name: value for name, value in dataclasses.asdict(options).items() if name not in _NOT_IN_KEY
        },
        "profile": {name: dataclasses.asdict(shapes) for name, shapes in profile.items()},
    }
    return decode(_Key, json.loads(json.dumps(facts), parse_float=_number))


def _number(text: str) -> int | float:
    """512.0 as 512: they are equal, and equal options have equal keys."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _look(slot: _Slot) -> CachedEngine | str | None:
    """The engine; why what lies there is none, as the beginning of a sentence; or None if nothing does."""
    _check_private(slot.folder)
    try:
        entry = _read_entry(slot.sidecar)
        content = slot.engine.read_bytes()
    except FileNotFoundError as problem:
        return _wrong(slot, "has no engine") if problem.filename == str(slot.engine) else None
    except OSError as problem:
        return _wrong(slot, f"cannot be read ({problem.strerror})")
    except ValueError as problem:
        return _wrong(slot, f"has a damaged description ({problem})")
    if entry.key != slot.key:
        return _wrong(slot, f"says that it is for {entry.key.title}")
    if len(content) != entry.artifact.size_bytes:
        return _wrong(slot, f"has {len(content)} bytes, {entry.artifact.size_bytes} were expected")
    if sha256(content) != entry.artifact.sha256:
        return _wrong(slot, "was changed or damaged: its SHA-256 is another")
    with contextlib.suppress(OSError):  # a cache that is read only serves all the same
        os.utime(slot.sidecar)  # what was used last is kept longest
    return CachedEngine(content=content, artifact=entry.artifact, path=slot.engine, built=False)


def _wrong(slot: _Slot, reason: str) -> str:
    return f"the cached engine of {slot.title} {reason} ({slot.engine})"


def _read_entry(sidecar: Path) -> _Entry:
    return decode(_Entry, json.loads(sidecar.read_text(encoding="utf-8")))


def _unfitting(slot: _Slot) -> str:
    """What there is of the same model for another GPU or version, as the beginning of a sentence."""
    others = [
        entry
        for _, entry in _entries(slot.folder)
        if _for_any_machine(entry.key) == _for_any_machine(slot.key)
    ]
    if not others:
        return ""
    return f"the cached engine of {others[0].name} is for {others[0].key.title}, and this is {slot.key.title}"


def _for_any_machine(key: _Key) -> _Key:
    options = {name: value for name, value in key.options.items() if name != "targets"}
    return dataclasses.replace(key, version="", gpu={}, options=options)


def _for_any_model(key: _Key) -> _Key:
    return dataclasses.replace(key, model="", version="")


def _entries(folder: Path) -> list[tuple[Path, _Entry]]:
    """All that can be understood, the one used last first."""
    found = []
    for sidecar in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError):  # removed just now, damaged, or of another format
            found.append((sidecar.stat().st_mtime_ns, sidecar, _read_entry(sidecar)))
    found.sort(key=lambda item: item[0], reverse=True)
    return [(sidecar, entry) for _, sidecar, entry in found]


def _prepare(slot: _Slot) -> None:
    try:
        private_folder(slot.folder.name, slot.root)
    except OSError as problem:
        _unwritable(slot, problem)


def _unwritable(slot: _Slot, problem: OSError) -> NoReturn:
    raise BuildError(
        f"the engine of {slot.title} has to be built, and nothing can be kept in {slot.folder} "
        f"({problem.strerror}); {slot.otherwise}"
    ) from problem


@contextlib.contextmanager
def _alone(slot: _Slot, progress: Progress | None) -> Iterator[None]:
    """Be the only process, and the only thread, that builds."""
    try:
        descriptor = os.open(slot.lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        _unwritable(slot, problem)
    try:
        _acquire(slot, descriptor, progress)
        yield
    finally:
        with contextlib.suppress(OSError):  # of disks without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing alone does not, if this process forked meanwhile
        os.close(descriptor)


def _acquire(slot: _Slot, descriptor: int, progress: Progress | None) -> None:
    """Wait for the lock, which is free as soon as its holder ends, however it ends.

    It is asked for again and again, so that `progress` can abandon the waiting.
    """
    waited = False
    while not _try_lock(slot, descriptor):
        if not waited:
            _LOG.info("another process builds an engine; waiting for it with %s (%s)", slot.title, slot.lock)
        waited = True
        if progress is not None:
            progress(WAITING, 0, 1)
        time.sleep(_LOOK_EVERY_S)
    if waited and progress is not None:
        progress(WAITING, 1, 1)


def _try_lock(slot: _Slot, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as problem:  # a network disk without locks
        _unwritable(slot, problem)
    return True


def _build(slot: _Slot, progress: Progress | None) -> CachedEngine:
    _LOG.info("building the engine of %s, once for this machine", slot.title)
    _remove(slot.sidecar)
    for leftover in slot.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
        with contextlib.suppress(OSError):
            leftover.unlink()
    content = slot.bundle.read(slot.bundle.model)
    engine = build_engine(content, slot.profile, slot.options, progress)
    _check_built(slot, engine)
    kept = _keep(slot, engine)
    _LOG.info("built the engine of %s in %.1f s (%s)", slot.title, kept.seconds, kept.path or "not kept")
    return kept


def _check_built(slot: _Slot, engine: BuiltEngine) -> None:
    """Never keep an engine under the name of another."""
    key = slot.key
    if engine.version != key.version:
        raise BuildError(
            f"the engine was built by {FLAVOURS[key.flavour]} {engine.version}, and {key.version} is loaded "
            "here; are two of them installed? Restart the process after installing another version"
        )
    local = slot.options.targets == (LOCAL,)
    expected = f"{slot.gpu.target} ({slot.gpu.name})" if local else "+".join(slot.options.targets)
    built_for = "+".join(engine.targets) + (f" ({engine.options.get('gpu')})" if local else "")
    if built_for != expected:
        raise BuildError(
            f"the engine was built for {built_for} and {expected} was expected; TensorRT builds for the "
            "first GPU that it sees, and CUDA_VISIBLE_DEVICES chooses that"
        )
    check_interface(slot.bundle, engine)


def _keep(slot: _Slot, engine: BuiltEngine) -> CachedEngine:
    artifact = dataclasses.replace(
        engine.artifact, sha256=sha256(engine.content), size_bytes=len(engine.content)
    )
    entry = _Entry(key=slot.key, name=slot.bundle.manifest.name, artifact=artifact, pixelrt=__version__)
    path: Path | None = slot.engine
    try:
        write_file(slot.engine, engine.content)
        write_file(slot.sidecar, json.dumps(dataclasses.asdict(entry), indent=2).encode())
    except BundleError as problem:
        _remove(slot.sidecar)
        path = None
        _LOG.warning(
            "the engine of %s was built in %.1f s and is used, but not kept, so the next start builds again: "
            "%s; make space there; %s",
            slot.title,
            engine.seconds,
            problem,
            slot.otherwise,
        )
    except BaseException:  # Ctrl-C between the two
        _remove(slot.sidecar)
        raise
    else:
        _tidy(slot)
    return CachedEngine(content=engine.content, artifact=artifact, path=path, built=True)


def _tidy(slot: _Slot) -> None:
    """Remove all but a few engines of this bundle name with these options."""
    rivals = [
        sidecar
        for sidecar, entry in _entries(slot.folder)
        if entry.name == slot.bundle.manifest.name and _for_any_model(entry.key) == _for_any_model(slot.key)
    ]
    for sidecar in rivals[_KEPT:]:
        _LOG.info("removing %s: it was not used for longer than %d others like it", sidecar, _KEPT)
        _remove(sidecar)


def _remove(sidecar: Path) -> None:
    """Remove an entry, the sidecar first."""
    for file in (sidecar, sidecar.with_suffix(".engine")):
        with contextlib.suppress(OSError):  # then it cannot be replaced either, and that is told
            file.unlink()
