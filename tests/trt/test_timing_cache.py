"""The file of the timing cache. TensorRT-RTX has none, so TensorRT's side is a fake of its four calls."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path

import pytest

from pixelrt.bundle import locked
from pixelrt.errors import BuildError
from pixelrt.trt.gpu import LocalGpu
from pixelrt.trt.library import Library, load_library
from pixelrt.trt.timing_cache import TimingCache, default_file

ORIN = LocalGpu("Orin (nvgpu)", "sm87")
HERE = "10.3 on Orin"
"""What a cache is for; TensorRT keeps it in the cache itself."""


class FakeCache:
    """A timing cache whose entries are names."""

    def __init__(self, made_for: str, *names: str) -> None:
        self.made_for = made_for
        self.names = set(names)

    def serialize(self) -> bytes:
        return json.dumps([self.made_for, sorted(self.names)]).encode()

    def combine(self, other: FakeCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.names |= other.names if other.made_for == self.made_for else set()
        return other.made_for == self.made_for


class FakeConfig:
    """TensorRT's configuration as far as a timing cache goes."""

    def __init__(self, library: Library, *, returns_new: bool = True) -> None:
        self.library = library
        self.returns_new = returns_new
        """Whether it makes a new cache of what it cannot read, as TensorRT-RTX does, or none."""
        self.attached: FakeCache | None = None

    def create_timing_cache(self, content: bytes) -> FakeCache | None:
        if not content:
            return FakeCache(HERE)
        try:
            made_for, names = json.loads(content)
        except ValueError:
            self.library.warnings.append("Failed to deserialize timing cache.")
            return FakeCache(HERE) if self.returns_new else None
        return FakeCache(made_for, *names)

    def set_timing_cache(self, cache: FakeCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.made_for != HERE:
            self.library.problems.append("Cache was made on another device.")
            return False
        self.attached = cache
        return True

    def get_timing_cache(self) -> FakeCache | None:
        return self.attached

    def build(self, *names: str) -> None:
        assert self.attached is not None
        self.attached.names |= set(names)


@pytest.fixture
def library() -> Library:
    return Library("tensorrt", None, "10.3.0", None)


@pytest.fixture
def config(library: Library) -> FakeConfig:
    return FakeConfig(library)


def names(file: Path) -> list[str]:
    found: list[str] = json.loads(file.read_bytes())[1]
    return found


def run(library: Library, file: Path, *built: str) -> FakeConfig:
    """A whole build with a file, which adds entries."""
    config = FakeConfig(library)
    cache = TimingCache.attach(library, config, str(file), ORIN)
    assert cache is not None
    config.build(*built)
    cache.store()
    return config


def test_one_file_per_gpu_and_version(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIXELRT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "pixelrt" / "timing" / "tensorrt-10.3.0-Orin_nvgpu_-sm87.cache"
    assert default_file(library, ORIN) == file
    assert file.parent.stat().st_mode & 0o777 == 0o700
    config = FakeConfig(library)
    cache = TimingCache.attach(library, config, True, ORIN)
    assert cache is not None
    config.build("conv")
    cache.store()
    assert names(file) == ["conv"]
    assert default_file(library, LocalGpu("Orin", "sm86")) != file


def test_a_place_that_cannot_be_used_costs_no_engine(
    library: Library,
    config: FakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").touch()
    for place in ("relative", str(tmp_path / "file")):
        monkeypatch.setenv("PIXELRT_CACHE", place)
        assert TimingCache.attach(library, config, True, ORIN) is None
    assert [record.getMessage()[:15] for record in caplog.records] == ["no timing cache"] * 2


def test_nothing_is_kept_where_nothing_is_timed(library: Library, config: FakeConfig) -> None:
    assert TimingCache.attach(library, config, True, None) is None, "engines for other machines"
    assert TimingCache.attach(library, config, False, ORIN) is None
    assert config.attached is None


def test_the_next_build_knows_what_the_last_one_timed(library: Library, tmp_path: Path) -> None:
    run(library, tmp_path / "x", "conv")
    config = run(library, tmp_path / "x", "resize")
    assert config.attached is not None
    assert config.attached.names == {"conv", "resize"}
    assert names(tmp_path / "x") == ["conv", "resize"]


def test_what_others_wrote_meanwhile_is_merged(library: Library, tmp_path: Path) -> None:
    config = FakeConfig(library)
    cache = TimingCache.attach(library, config, str(tmp_path / "x"), ORIN)
    assert cache is not None
    run(library, tmp_path / "x", "theirs")
    config.build("ours")
    cache.store()
    assert names(tmp_path / "x") == ["ours", "theirs"]
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_it_is_written_under_a_lock(library: Library, tmp_path: Path) -> None:
    writer = threading.Thread(target=run, args=(library, tmp_path / "x", "conv"))
    with locked(tmp_path):
        writer.start()
        time.sleep(0.2)
        assert list(tmp_path.iterdir()) == []
    writer.join(10)
    assert names(tmp_path / "x") == ["conv"]


@pytest.mark.parametrize("returns_new", [True, False])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"rubbish " * 20, "Failed to deserialize"),
        (json.dumps(["10.3 on Xavier", ["conv"]]).encode(), "another device"),
    ],
)
def test_damaged_and_foreign_files_are_replaced_with_a_word(
    library: Library,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
    reason: str,
    *,
    returns_new: bool,
) -> None:
    (tmp_path / "x").write_bytes(content)
    config = FakeConfig(library, returns_new=returns_new)
    with caplog.at_level(logging.WARNING, "pixelrt.trt"):
        cache = TimingCache.attach(library, config, str(tmp_path / "x"), ORIN)
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert record.getMessage().endswith("; a new one is started")
    assert cache is not None
    config.build("new")
    cache.store()
    assert names(tmp_path / "x") == ["new"]
    assert library.take_problems() == library.take_warnings() == []


def test_a_good_file_is_taken_without_a_word(
    library: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(library, tmp_path / "x")
    run(library, tmp_path / "x", "conv")
    run(library, tmp_path / "x")
    assert caplog.records == []


def test_a_folder_that_is_not_there(library: Library, config: FakeConfig, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"there is no folder .*gone; make it first"):
        TimingCache.attach(library, config, str(tmp_path / "gone" / "x"), ORIN)


def test_a_cache_that_cannot_be_written_costs_no_engine(
    library: Library, config: FakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    cache = TimingCache.attach(library, config, str(folder / "x"), ORIN)
    assert cache is not None
    folder.rmdir()
    folder.write_text("a file")
    cache.store()
    assert "the timing cache is not kept" in caplog.text


def test_a_file_that_cannot_be_read(
    library: Library, config: FakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x").mkdir()
    assert TimingCache.attach(library, config, str(tmp_path / "x"), ORIN) is not None
    assert "cannot be read" in caplog.text


class TestTensorRTRTX:
    """The real thing, which says that it has none in a DeprecationWarning."""

    def make(self) -> tuple[Library, object]:
        library = load_library("tensorrt_rtx")
        builder = library.make(library.trt.Builder, library.logger)
        return library, builder.create_builder_config()

    @pytest.mark.filterwarnings("error")
    def test_a_file_that_was_named_is_refused(self, tmp_path: Path) -> None:
        library, config = self.make()
        with pytest.raises(BuildError, match=r"TensorRT-RTX .* has no --timingCacheFile: .* without eff"):
            TimingCache.attach(library, config, str(tmp_path / "x"), ORIN)

    def test_otherwise_there_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("PIXELRT_CACHE", str(tmp_path))
        library, config = self.make()
        with caplog.at_level(logging.WARNING, "pixelrt.trt"):
            caplog.clear()
            assert TimingCache.attach(library, config, True, ORIN) is None
        assert [record for record in caplog.records if record.levelno == logging.WARNING] == []
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
