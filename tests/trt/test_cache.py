"""The cache of engines: several processes at once, damage, other GPUs and versions, disks that refuse."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import fcntl
import functools
import json
import logging
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tensorrt_rtx

from pixelrt import __version__
from pixelrt.bundle import Bundle, sha256, write_file
from pixelrt.errors import BuildError, InputError
from pixelrt.trt import LOCAL, BuildOptions, BuiltEngine, ShapeRange, build_engine, cache, profile_of
from pixelrt.trt.cache import WAITING, CachedEngine, cache_folder, cached_engine, find_engine, private_folder
from pixelrt.trt.gpu import LocalGpu

MakeBundle = Callable[..., Bundle]
WaitFor = Callable[[Callable[[], bool]], None]
Workers = Callable[..., list[int]]
Log = pytest.LogCaptureFixture

VERSION = str(tensorrt_rtx.__version__)
GPU = LocalGpu("NVIDIA RTX A4000", "sm86")
SM86 = BuildOptions(flavour="tensorrt_rtx", targets=("sm86",))
HERE = f"TensorRT-RTX {VERSION} on NVIDIA RTX A4000 (sm86)"
BUILDING = "Building engine"
NOBODY = 65534


@pytest.fixture(scope="module")
def bundle(make_bundle: MakeBundle) -> Bundle:
    return make_bundle(emit=("mask",), precision="fp16")


@pytest.fixture(scope="module")
def filled(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the engine of `bundle`. Tests take a copy; see `folder`."""
    place = tmp_path_factory.mktemp("filled") / "cache"
    cached_engine(bundle, SM86, version=VERSION, gpu=GPU, folder=place)
    return place


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "cache"))


@pytest.fixture
def log(caplog: Log) -> Log:
    caplog.set_level(logging.INFO, "pixelrt.cache")
    return caplog


def warnings(log: Log) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


def names(folder: Path) -> list[str]:
    return sorted(file.suffix or file.name for file in (folder / "engines").iterdir())


def sidecar(folder: Path) -> Path:
    (file,) = (folder / "engines").glob("*.json")
    return file


def engine_file(folder: Path) -> Path:
    return sidecar(folder).with_suffix(".engine")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the sidecar says, and put the entry where it then belongs."""
    old = sidecar(folder)
    data = json.loads(old.read_text())
    change(data)
    old.write_text(json.dumps(data))
    digest = cache._read_entry(old).key.digest
    old.with_suffix(".engine").rename(old.with_name(f"{digest}.engine"))
    old.rename(old.with_name(f"{digest}.json"))


def cached(bundle: Bundle, folder: Path, options: BuildOptions = SM86, **others: Any) -> CachedEngine:
    return cached_engine(bundle, options, **{"version": VERSION, "gpu": GPU, "folder": folder, **others})


def find(bundle: Bundle, folder: Path, options: BuildOptions = SM86, **others: Any) -> CachedEngine | None:
    return find_engine(bundle, options, **{"version": VERSION, "gpu": GPU, "folder": folder, **others})


class TestPlain:
    def test_built_once_then_found(self, bundle: Bundle, tmp_path: Path, log: Log) -> None:
        phases = []
        first = cached(bundle, tmp_path, progress=lambda phase, step, num_steps: phases.append(phase))
        assert first.built
        assert BUILDING in phases
        assert WAITING not in phases
        assert [record.getMessage() for record in log.records] == [
            f"building the engine of colors for {HERE}, once for this machine",
            f"built the engine of colors for {HERE} in {first.seconds:.1f} s ({first.path})",
        ]

        def never(phase: str, step: int, num_steps: int) -> None:
            pytest.fail(f"{phase} although the engine is there")

        again = cached(bundle, tmp_path, progress=never)
        assert again == dataclasses.replace(first, built=False)
        assert find(bundle, tmp_path) == again
        assert warnings(log) == []

    def test_what_is_known_of_it(self, bundle: Bundle, folder: Path) -> None:
        found = find(bundle, folder)
        assert found is not None
        assert found.path is not None
        assert found.path.read_bytes() == found.content
        assert found.content[:4] == b"vtrt"
        assert found.artifact.sha256 == sha256(found.content)
        assert found.artifact.size_bytes == len(found.content)
        assert (found.artifact.flavour, found.artifact.version) == ("tensorrt_rtx", VERSION)
        assert found.artifact.targets == ("sm86",)
        assert found.artifact.options["optShapes"] == "frame:1x720x1280x3"
        assert 0 < found.seconds < 60
        assert len(repr(found)) < 1000
        said = json.loads(sidecar(folder).read_text())
        assert said["key"]["gpu"] == {"name": GPU.name, "target": GPU.target, "multiprocessors": 0}
        assert (said["name"], said["pixelrt"]) == ("colors", __version__)

    def test_nothing_is_made_by_looking(self, bundle: Bundle, tmp_path: Path, log: Log) -> None:
        place = tmp_path / "cache"
        assert find(bundle, place) is None
        assert not place.exists()
        assert log.records == []

    def test_found_while_another_engine_is_built(self, bundle: Bundle, folder: Path) -> None:
        with (folder / "engines" / "lock").open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert not cached(bundle, folder).built

    def test_a_target_that_is_not_this_gpu(self, bundle: Bundle, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"\['sm86'\] for RTX 4090: its own, 'sm89', was expected"):
            find(bundle, tmp_path, gpu=LocalGpu("RTX 4090", "sm89"))

    def test_shapes_that_the_caller_names(self, bundle: Bundle, folder: Path) -> None:
        (name,) = profile_of(bundle.manifest)
        shape = (1, 64, 64, 3)
        profile = {name: ShapeRange(min=shape, opt=shape, max=shape)}
        assert find(bundle, folder, profile=profile) is None
        built = cached(bundle, folder, profile=profile)
        assert built.artifact.options["maxShapes"] == "frame:1x64x64x3"
        assert find(bundle, folder, profile=profile) == dataclasses.replace(built, built=False)
        assert find(bundle, folder) is not None


class TestKey:
    def digest(self, bundle: Bundle, options: BuildOptions = SM86, **others: Any) -> str:
        profile = others.pop("profile", profile_of(bundle.manifest))
        return cache._key(
            bundle, options, others.get("version", VERSION), others.get("gpu", GPU), profile
        ).digest

    def test_every_option_counts(self, bundle: Bundle) -> None:
        digests = {self.digest(bundle)}
        fields = [field.name for field in dataclasses.fields(BuildOptions)]
        assert set(cache._NOT_IN_KEY) <= set(fields)
        for name in fields:
            changed = copy.copy(SM86)
            # not a value that TensorRT takes: new options are covered without anybody thinking of it here
            object.__setattr__(changed, name, "tensorrt" if name == "flavour" else ["something else"])
            digests.add(self.digest(bundle, changed))
        assert len(digests) == 1 + len(fields) - len(cache._NOT_IN_KEY)

    def test_what_does_not_change_the_engine_does_not_count(self, bundle: Bundle) -> None:
        options = dataclasses.replace(SM86, verbose=True, timing_cache="/tmp/times")
        assert self.digest(bundle, options) == self.digest(bundle)

    def test_equal_options_are_one_key(self, bundle: Bundle) -> None:
        whole, broken = (dataclasses.replace(SM86, workspace_mib=mib) for mib in (512, 512.0))
        assert whole == broken
        assert self.digest(bundle, whole) == self.digest(bundle, broken)
        half = dataclasses.replace(SM86, workspace_mib=512.5)
        assert self.digest(bundle, half) != self.digest(bundle, whole)

    def test_machine_model_and_schemas_count(
        self, bundle: Bundle, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digests = [
            self.digest(bundle),
            self.digest(bundle, version="1.0.0"),
            self.digest(bundle, gpu=LocalGpu("NVIDIA RTX A4000", "sm89")),
            self.digest(bundle, gpu=LocalGpu("NVIDIA RTX A5000", "sm86")),
            self.digest(make_bundle(emit=("mask",), precision="fp32")),
        ]
        ((name, shapes),) = profile_of(bundle.manifest).items()
        for kind, shape in (("min", (1, 8, 8, 3)), ("opt", (1, 64, 64, 3)), ("max", (9, 2160, 3840, 3))):
            changed = dataclasses.replace(shapes, **{kind: shape})
            digests.append(self.digest(bundle, profile={name: changed}))
        for number in ("SCHEMA", "MANIFEST_SCHEMA"):
            with monkeypatch.context() as patch:
                patch.setattr(cache, number, 99)
                digests.append(self.digest(bundle))
        assert len(set(digests)) == len(digests) == 10


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the engine": (
        lambda folder: flip(engine_file(folder)),
        r"was changed or damaged: its SHA-256 is another",
    ),
    "its end": (lambda folder: cut(engine_file(folder)), r"has \d+ bytes, \d+ were expected"),
    "all of it": (lambda folder: engine_file(folder).write_bytes(b""), r"has 0 bytes, \d+ were expected"),
    "its file": (lambda folder: engine_file(folder).unlink(), "has no engine"),
    "the end of the description": (
        lambda folder: cut(sidecar(folder)),
        r"has a damaged description \(.* \(char \d+\)\)",
    ),
    "its text": (
        lambda folder: sidecar(folder).write_bytes(b"\xff\0"),
        r"has a damaged description \(.*can't decode byte 0xff.*\)",
    ),
    "its keys": (
        lambda folder: sidecar(folder).write_text("{}"),
        r"has a damaged description \(missing key key\)",
    ),
    "its kind": (
        lambda folder: sidecar(folder).write_text("[]"),
        r"has a damaged description \(value is list '\[\]', expected a table\)",
    ),
}


class TestDamage:
    @pytest.mark.parametrize("what", DAMAGE)
    def test_it_is_built_again(self, bundle: Bundle, folder: Path, log: Log, what: str) -> None:
        damage, reason = DAMAGE[what]
        damage(folder)
        title = f"the cached engine of colors for {re.escape(HERE)}"
        for call, end in ((find, "it is not used"), (cached, "building it again")):
            log.clear()
            found = call(bundle, folder)
            (said,) = warnings(log)
            assert re.fullmatch(rf"{title} {reason} \({folder}/engines/\w+\.engine\); {end}", said)
            assert found is None or found.built
        log.clear()
        assert not cached(bundle, folder).built
        assert warnings(log) == []
        assert names(folder) == [".engine", ".json", "lock"]

    @pytest.mark.parametrize("suffix", [".engine", ".json"])
    def test_something_that_cannot_be_replaced(
        self, bundle: Bundle, folder: Path, log: Log, suffix: str
    ) -> None:
        file = sidecar(folder).with_suffix(suffix)
        file.unlink()
        file.mkdir()
        built = cached(bundle, folder)
        assert built.built
        assert built.path is None
        first, second = warnings(log)
        assert "cannot be read (Is a directory)" in first
        assert f"but not kept, so the next start builds again: {file} cannot be written" in second
        assert names(folder) == [suffix, "lock"]

    def test_one_that_was_being_written_is_nothing(self, bundle: Bundle, folder: Path, log: Log) -> None:
        """The engine is there, the power failed before its description was."""
        sidecar(folder).unlink()
        leftover = folder / "engines" / ".1234.engine.abcd.tmp"
        leftover.write_bytes(b"half of")
        assert find(bundle, folder) is None
        assert cached(bundle, folder).built
        assert warnings(log) == []
        assert names(folder) == [".engine", ".json", "lock"]
        assert not leftover.exists()

    def test_one_under_the_name_of_another(self, bundle: Bundle, folder: Path, log: Log) -> None:
        old = sidecar(folder)
        digest = TestKey().digest(bundle, gpu=LocalGpu("NVIDIA RTX A5000", "sm86"))
        shutil.copy(old, old.with_name(f"{digest}.json"))
        shutil.copy(old.with_suffix(".engine"), old.with_name(f"{digest}.engine"))
        assert find(bundle, folder, gpu=LocalGpu("NVIDIA RTX A5000", "sm86")) is None
        (said,) = warnings(log)
        assert f"says that it is for {HERE}" in said


class TestOthers:
    def test_another_gpu(self, bundle: Bundle, folder: Path, log: Log) -> None:
        gpu = LocalGpu("RTX 4090", "sm89")
        built = cached(bundle, folder, dataclasses.replace(SM86, targets=("sm89",)), gpu=gpu)
        assert built.built
        assert built.artifact.targets == ("sm89",)
        (said,) = warnings(log)
        assert said == (
            f"the cached engine of colors is for {HERE}, and this is TensorRT-RTX {VERSION} on RTX 4090 "
            "(sm89); building it again"
        )
        assert find(bundle, folder) is not None  # the first GPU may come back

    def test_another_version(self, bundle: Bundle, folder: Path, log: Log) -> None:
        rewrite(folder, lambda data: data["key"].update(version="1.0.0"))
        assert find(bundle, folder, version="1.0.0") is not None
        assert cached(bundle, folder).built
        (said,) = warnings(log)
        assert said == (
            "the cached engine of colors is for TensorRT-RTX 1.0.0 on NVIDIA RTX A4000 (sm86), and this is "
            f"{HERE}; building it again"
        )

    @pytest.mark.parametrize("change", ["model", "options", "profile"])
    def test_another_engine_altogether_is_no_surprise(
        self, bundle: Bundle, folder: Path, log: Log, change: str
    ) -> None:
        def alter(data: dict[str, Any]) -> None:
            data["key"][change] = "0" * 64 if change == "model" else {}

        rewrite(folder, alter)
        assert find(bundle, folder) is None
        assert warnings(log) == []

    def test_a_version_that_does_not_build_is_not_kept(self, bundle: Bundle, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=rf"built by TensorRT-RTX {VERSION}, and 99.1 is loaded here"):
            cached(bundle, tmp_path, version="99.1")
        assert names(tmp_path) == ["lock"]


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> BuiltEngine:
    return build_engine(bundle.read(bundle.model), profile_of(bundle.manifest), SM86)


class TestBuiltForAnother:
    """What a local engine is checked for, here with one of TensorRT-RTX: the regular TensorRT needs a GPU."""

    def slot(self, bundle: Bundle, folder: Path, *targets: str) -> cache._Slot:
        flavour = "tensorrt" if targets == (LOCAL,) else "tensorrt_rtx"
        options = BuildOptions(flavour=flavour, targets=targets)  # type: ignore[arg-type]
        return cache._slot(bundle, options, VERSION, GPU, None, folder)

    def test_local(self, bundle: Bundle, engine: BuiltEngine, tmp_path: Path) -> None:
        slot = self.slot(bundle, tmp_path, LOCAL)
        cache._check_built(slot, dataclasses.replace(engine, options={"gpu": GPU.name}))
        for name, targets in (("Orin", ("sm86",)), (GPU.name, ("sm87",))):
            wrong = dataclasses.replace(engine, options={"gpu": name}, targets=targets)
            with pytest.raises(
                BuildError,
                match=rf"for {targets[0]} \({name}\) and sm86 \(NVIDIA RTX A4000\).*CUDA_VISIBLE_DEVICES",
            ):
                cache._check_built(slot, wrong)

    def test_named(self, bundle: Bundle, engine: BuiltEngine, tmp_path: Path) -> None:
        slot = self.slot(bundle, tmp_path, "sm86")
        cache._check_built(slot, engine)
        with pytest.raises(BuildError, match=r"built for sm89 and sm86 was expected"):
            cache._check_built(slot, dataclasses.replace(engine, targets=("sm89",)))

    def test_interface(self, bundle: Bundle, engine: BuiltEngine, tmp_path: Path) -> None:
        slot = self.slot(bundle, tmp_path, "sm86")
        with pytest.raises(BuildError, match=r"are not those of .*: no 'mask'; export the bundle again"):
            cache._check_built(slot, dataclasses.replace(engine, outputs=()))


_LOADER = """
import json, logging, signal, sys, time
from pathlib import Path
from pixelrt.bundle import Bundle
from pixelrt.trt import BuildOptions
from pixelrt.trt.cache import cached_engine
from pixelrt.trt.gpu import LocalGpu
logging.basicConfig(level=logging.INFO, format="%(message)s")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
bundle, folder, gate, version = sys.argv[1:]
told = set()
def progress(phase, step, num_steps):
    if phase not in told:
        print(phase, flush=True)
    told.add(phase)
    while phase == "Building engine" and not Path(gate).exists():
        time.sleep(0.01)
found = cached_engine(
    Bundle.open(bundle),
    BuildOptions(flavour="tensorrt_rtx", targets=("sm86",)),
    version=version,
    gpu=LocalGpu("NVIDIA RTX A4000", "sm86"),
    folder=Path(folder),
    progress=progress,
)
print(json.dumps([found.built, found.artifact.sha256]))
"""


class Loaders:
    """Processes that want the engine. One that builds waits in the middle of it until the gate opens."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.bundle, self.folder, self.gate = bundle, folder, folder.parent / "gate"
        self.running: list[subprocess.Popen[str]] = []

    def start(self, until: str) -> subprocess.Popen[str]:
        """Start one, and wait until it says that it is in a phase."""
        arguments = [str(self.bundle.path), str(self.folder), str(self.gate), VERSION]
        process = subprocess.Popen(
            [sys.executable, "-c", _LOADER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == until:
                return process
        raise AssertionError(f"it never came to {until!r}: {process.communicate()[1]}")

    def finish(self, process: subprocess.Popen[str]) -> tuple[bool, str, list[str], str]:
        """Whether it built, the engine's sum, the phases that were left, what it logged."""
        out, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        *phases, result = out.splitlines()
        built, digest = json.loads(result)
        return built, digest, phases, said

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.communicate()


@pytest.fixture
def loaders(bundle: Bundle, tmp_path: Path, temporary: Path) -> Iterator[Loaders]:
    made = Loaders(bundle, tmp_path / "cache")
    yield made
    made.close()


class TestProcesses:
    @pytest.mark.parametrize("num_waiting", [1, 3])
    def test_one_builds_and_the_others_wait(self, loaders: Loaders, num_waiting: int) -> None:
        builder = loaders.start(until=BUILDING)
        waiting = [loaders.start(until=WAITING) for _ in range(num_waiting)]
        loaders.gate.touch()
        built, digest, _, said = loaders.finish(builder)
        assert built
        assert "waiting for it" not in said
        for process in waiting:
            built, same, phases, said = loaders.finish(process)
            assert (built, same, phases) == (False, digest, [])  # not one phase of a build
            assert "another process builds an engine; waiting for it" in said
        assert names(loaders.folder) == [".engine", ".json", "lock"]

    def test_nobody_is_first(self, loaders: Loaders) -> None:
        """All start together, whoever is quicker."""
        loaders.gate.touch()
        arguments = [str(loaders.bundle.path), str(loaders.folder), str(loaders.gate), VERSION]
        command = [sys.executable, "-c", _LOADER, *arguments]
        all_at_once = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        outputs = [process.communicate(timeout=100)[0] for process in all_at_once]
        assert [process.returncode for process in all_at_once] == [0] * 4
        assert sum(BUILDING in output for output in outputs) == 1
        assert len({json.loads(output.splitlines()[-1])[1] for output in outputs}) == 1

    def test_the_builder_is_killed(
        self, loaders: Loaders, temporary: Path, workers: Workers, eventually: WaitFor
    ) -> None:
        builder = loaders.start(until=BUILDING)
        waiting = [loaders.start(until=WAITING) for _ in range(2)]
        builder.kill()
        loaders.gate.touch()
        ended = [loaders.finish(process) for process in waiting]
        assert sorted(built for built, *_ in ended) == [False, True]
        assert len({digest for _, digest, *_ in ended}) == 1
        assert names(loaders.folder) == [".engine", ".json", "lock"]
        eventually(lambda: workers(folder=temporary) == [])

    def test_ctrl_c_while_it_builds(
        self, loaders: Loaders, temporary: Path, workers: Workers, eventually: WaitFor
    ) -> None:
        builder = loaders.start(until=BUILDING)
        os.killpg(builder.pid, signal.SIGINT)
        assert builder.wait(timeout=60) == -signal.SIGINT
        assert names(loaders.folder) == ["lock"]
        assert workers(folder=temporary) == []
        eventually(lambda: list(temporary.iterdir()) == [])

    def test_ctrl_c_while_it_waits(self, loaders: Loaders) -> None:
        builder = loaders.start(until=BUILDING)
        waiting = loaders.start(until=WAITING)
        os.killpg(waiting.pid, signal.SIGINT)
        assert waiting.wait(timeout=60) == -signal.SIGINT
        assert builder.poll() is None
        loaders.gate.touch()
        assert loaders.finish(builder)[0]

    def test_threads_of_one_process(self, bundle: Bundle, tmp_path: Path) -> None:
        second_waits = threading.Event()

        def progress(phase: str, step: int, num_steps: int) -> None:
            if phase == WAITING:
                second_waits.set()
            if phase == BUILDING:
                assert second_waits.wait(timeout=60)

        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(cached, bundle, tmp_path, progress=progress) for _ in range(2)]
        assert sorted(future.result().built for future in both) == [False, True]

    def test_waiting_can_be_abandoned(self, bundle: Bundle, tmp_path: Path) -> None:
        class EnoughError(Exception):
            pass

        steps = []

        def progress(phase: str, step: int, num_steps: int) -> None:
            steps.append((phase, step, num_steps))
            if len(steps) == 2:
                raise EnoughError

        (tmp_path / "engines").mkdir(mode=0o700)
        with (tmp_path / "engines" / "lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(EnoughError):
                cached(bundle, tmp_path, progress=progress)
        assert steps == [(WAITING, 0, 1)] * 2

    def test_ctrl_c_between_engine_and_description(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write(path: Path, content: bytes) -> None:
            if path.suffix == ".json":
                raise KeyboardInterrupt
            write_file(path, content)

        monkeypatch.setattr(cache, "write_file", write)
        with pytest.raises(KeyboardInterrupt):
            cached(bundle, tmp_path)
        assert names(tmp_path) == ["lock"]

    def test_no_description_while_the_engine_is_replaced(
        self, bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever ends the process there, no old description meets a new engine."""
        seen = []

        def write(path: Path, content: bytes) -> None:
            seen.append(names(folder))
            write_file(path, content)

        flip(engine_file(folder))
        monkeypatch.setattr(cache, "write_file", write)
        assert cached(bundle, folder).built
        assert seen == [["lock"], [".engine", "lock"]]

    def test_a_fork_does_not_keep_the_lock(self, bundle: Bundle, tmp_path: Path) -> None:
        """It shares the open file with us, as a duplicate does."""
        lock = tmp_path / "engines" / "lock"
        shared: list[int] = []

        def progress(phase: str, step: int, num_steps: int) -> None:
            if not shared:
                ours = [int(link.name) for link in Path("/proc/self/fd").iterdir() if link.resolve() == lock]
                shared.extend(map(os.dup, ours))

        cached(bundle, tmp_path, progress=progress)
        assert len(shared) == 1
        with lock.open() as another:
            fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(shared[0])


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Be a user whom permissions bind: root becomes nobody for a while."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach, and that belongs to whom `without_privileges` makes of us."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "cache"
        place.mkdir()
        Path(name).chmod(0o755)
        if os.geteuid() == 0:
            os.chown(place, NOBODY, -1)
        yield place


class TestFolder:
    ADVICE = r"PIXELRT_CACHE names another folder, or .*: pixelrt build .*bundle\S* --target sm86$"

    @pytest.fixture
    def never(self) -> Callable[[str, int, int], None]:
        def progress(phase: str, step: int, num_steps: int) -> None:
            pytest.fail(f"{phase}: it builds although nothing can be kept")

        return progress

    def test_only_for_this_user(self, bundle: Bundle, tmp_path: Path) -> None:
        old = os.umask(0o002)  # of Ubuntu's users
        try:
            place = tmp_path / "far" / "cache"
            with pytest.raises(BuildError, match=r"99.1 is loaded here"):
                cached(bundle, place, version="99.1")
        finally:
            os.umask(old)
        for folder in (place, place / "engines"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    @pytest.mark.parametrize(
        ("name", "mode", "remedy"),
        [
            ("", 0o775, "go-w"),
            ("", 0o777, "go-w"),
            ("engines", 0o755, "700"),
            ("engines", 0o720, "700"),
        ],
    )
    def test_open_to_others(
        self, bundle: Bundle, folder: Path, name: str, mode: int, remedy: str, never: Any
    ) -> None:
        (folder / name).chmod(mode)
        for call in (find, functools.partial(cached, progress=never)):
            with pytest.raises(
                BuildError,
                match=rf"^{folder / name} is open to other users \(mode {mode:o}\), and engines are native .*"
                rf"chmod {remedy} {folder / name}; or PIXELRT_CACHE names another folder$",
            ):
                call(bundle, folder)
        (folder / name).chmod(0o700)
        assert find(bundle, folder) is not None

    def test_readable_by_others_is_well_above_the_engines(self, bundle: Bundle, folder: Path) -> None:
        folder.chmod(0o755)
        assert find(bundle, folder) is not None

    def test_other_things_are_kept_there_too(self, tmp_path: Path) -> None:
        place = private_folder("kernels", tmp_path / "cache")
        assert place == private_folder("kernels", tmp_path / "cache") == tmp_path / "cache" / "kernels"
        assert stat.S_IMODE(place.stat().st_mode) == stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        place.chmod(0o770)
        with pytest.raises(BuildError, match="kernels is open to other users"):
            private_folder("kernels", tmp_path / "cache")

    def test_of_another_user(self, bundle: Bundle, public: Path, never: Any) -> None:
        place = public if os.geteuid() == 0 else Path("/usr")
        with pytest.raises(
            BuildError, match=r"belongs to the user \d+, this is the user .* names another folder$"
        ):
            cached(bundle, place, progress=never)
        assert not (place / "engines" / "lock").exists()

    def test_read_only(self, bundle: Bundle, public: Path, never: Any) -> None:
        public.chmod(0o500)
        with (
            without_privileges(),
            pytest.raises(
                BuildError, match=rf"nothing can be kept in .* \(Permission denied\); {self.ADVICE}"
            ),
        ):
            cached(bundle, public, progress=never)

    def test_a_read_only_folder_with_the_engine(self, bundle: Bundle, folder: Path, public: Path) -> None:
        shutil.copytree(folder, public, dirs_exist_ok=True)
        for file in (public / "engines").iterdir():  # root's, so nobody may not touch their times
            file.chmod(0o444)
        for path in (public, public / "engines"):
            if os.geteuid() == 0:
                os.chown(path, NOBODY, -1)
            path.chmod(0o500)
        with without_privileges():
            assert not cached(bundle, public).built
        for path in (public, public / "engines"):
            path.chmod(0o700)

    def test_a_file_in_its_place(self, bundle: Bundle, tmp_path: Path, never: Any) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(
            BuildError, match=rf"nothing can be kept in .* \(Not a directory\); {self.ADVICE}"
        ):
            cached(bundle, tmp_path / "file" / "cache", progress=never)

    def test_a_lock_that_cannot_be_had(self, bundle: Bundle, tmp_path: Path, never: Any) -> None:
        (tmp_path / "engines" / "lock").mkdir(parents=True)
        (tmp_path / "engines").chmod(0o700)
        with pytest.raises(BuildError, match=rf"\(Is a directory\); {self.ADVICE}"):
            cached(bundle, tmp_path, progress=never)

    def test_a_disk_that_is_full_after_the_build(self, bundle: Bundle, tmp_path: Path, log: Log) -> None:
        """The minutes are spent: a robot drives with what was built, and is told what to do."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        def progress(phase: str, step: int, num_steps: int) -> None:
            if phase == BUILDING:  # of this process alone: the child has started
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

        try:
            built = cached(bundle, tmp_path, progress=progress)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert built.built
        assert built.path is None
        assert sha256(built.content) == built.artifact.sha256
        (said,) = warnings(log)
        assert re.fullmatch(
            r"the engine of colors .* was built in .* s and is used, but not kept, so the next start builds "
            rf"again: .*cannot be written \(File too large\).*; make space there; {self.ADVICE}",
            said,
        )
        assert names(tmp_path) == ["lock"]


class TestTidying:
    @pytest.fixture
    def clone(self, filled: Path, folder: Path, tmp_path: Path) -> Callable[..., Path]:
        """Return a function that puts another entry into the cache, used some time ago."""

        def make(change: Callable[[dict[str, Any]], object], *, age_s: int) -> Path:
            made = Path(shutil.copytree(filled, tmp_path / "clone"))
            rewrite(made, change)
            for file in (engine_file(made), sidecar(made)):
                shutil.copy(file, folder / "engines")
            copied = folder / "engines" / sidecar(made).name
            shutil.rmtree(made)
            used_s = copied.stat().st_mtime - age_s
            os.utime(copied, (used_s, used_s))
            return copied

        return make

    def test_a_few_of_one_kind_stay(
        self, bundle: Bundle, folder: Path, clone: Callable[..., Path], log: Log
    ) -> None:
        sidecar(folder).unlink()
        old = [
            clone(lambda data, number=number: data["key"].update(version=f"1.{number}"), age_s=number * 100)
            for number in range(3)
        ]
        others = {
            clone(lambda data: data.update(name="depth", key={**data["key"], "model": "0"}), age_s=900),
            clone(lambda data: data["key"]["gpu"].update(name="Orin"), age_s=900),
            clone(lambda data: data["key"]["options"].update(workspace_mib=1), age_s=900),
        }
        assert find(bundle, folder, version="1.2") is not None  # so 1.1 is what was not used for longest
        log.clear()
        built = cached(bundle, folder)
        assert built.built
        assert built.path is not None
        left = set((folder / "engines").glob("*.json"))
        assert left == {built.path.with_suffix(".json"), old[0], old[2], *others}
        assert {file.with_suffix(".engine") for file in left} == set((folder / "engines").glob("*.engine"))
        (removed,) = [record for record in log.records if "removing" in record.getMessage()]
        assert str(old[1]) in removed.getMessage()


class TestCacheFolder:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        monkeypatch.setenv("HOME", "/home/robot")
        monkeypatch.delenv("PIXELRT_CACHE", raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        return monkeypatch

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({}, "/home/robot/.cache/pixelrt"),
            ({"PIXELRT_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/robot/.cache/pixelrt"),
            ({"XDG_CACHE_HOME": "/var/cache"}, "/var/cache/pixelrt"),
            ({"XDG_CACHE_HOME": "relative"}, "/home/robot/.cache/pixelrt"),
            ({"PIXELRT_CACHE": "/data/engines", "XDG_CACHE_HOME": "/var/cache"}, "/data/engines"),
        ],
    )
    def test_who_says_where(
        self, environment: pytest.MonkeyPatch, variables: dict[str, str], expected: str
    ) -> None:
        for name, value in variables.items():
            environment.setenv(name, value)
        assert cache_folder() == Path(expected)

    @pytest.mark.parametrize("value", ["engines", "./x", "~/engines"])
    def test_relative(self, environment: pytest.MonkeyPatch, value: str) -> None:
        environment.setenv("PIXELRT_CACHE", value)
        with pytest.raises(InputError, match=f"PIXELRT_CACHE is '{value}': an absolute path was expected"):
            cache_folder()

    def test_it_is_where_engines_go(
        self, environment: pytest.MonkeyPatch, bundle: Bundle, folder: Path
    ) -> None:
        environment.setenv("PIXELRT_CACHE", str(folder))
        found = find_engine(bundle, SM86, version=VERSION, gpu=GPU)
        assert found is not None
        assert found.path == engine_file(folder)

    def test_a_user_without_a_home(self) -> None:
        """A service of systemd with DynamicUser, say; this needs a user that nobody has named."""
        code = "import os; from pixelrt.trt.cache import cache_folder; os.environ.pop('HOME', 0); "
        if os.geteuid() == 0:
            code += "os.setuid(54321); "
        else:
            code += "os.getuid = lambda: 54321; "
        code += "cache_folder()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "InputError: this user has no home directory for a cache; PIXELRT_CACHE names" in done.stderr
