"""Bundles with several input sizes: what the manifest says, what is checked, what is opened."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import pixelrt
from pixelrt.bundle import MANIFEST, Bundle, sha256, write_file
from pixelrt.errors import BundleError, DeviceError, InputError, ManifestError
from pixelrt.isolation import isolate
from pixelrt.manifest import Artifact, Smaller, check_smaller, manifest_from_json, size_name, smaller_folder
from pixelrt.segmentation import Segmenter
from pixelrt.testing import fake_generator, fake_segmenter

MakeBundle = Any
SIZES = ((32, 48), (16, 24), (8, 12))
DIGEST = "0" * 64
ENGINE = Artifact(file="a.engine", kind="engine", sha256="", size_bytes=0, flavour="tensorrt", version="10")


def frame(size: tuple[int, int] = (64, 96)) -> NDArray[np.uint8]:
    """Red on the left, blue on the right."""
    made = np.zeros((*size, 3), np.uint8)
    made[:, : size[1] // 2, 0] = 200
    made[:, size[1] // 2 :, 2] = 200
    return made


@pytest.fixture(scope="module")
def original(make_bundle: MakeBundle) -> Bundle:
    made: Bundle = make_bundle(smaller=SIZES[1:])
    return made


@pytest.fixture
def bundle(original: Bundle, tmp_path: Path) -> Bundle:
    """One that a test may change."""
    shutil.copytree(original.path, tmp_path / "colors")
    return Bundle.open(tmp_path / "colors")


def changed(path: Path, **changes: Any) -> None:
    data = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(data | changes))


def vouched(outer: Bundle, index: int = 0) -> Bundle:
    """The bundle after somebody has made its manifest vouch for a smaller one as it is now."""
    entries = list(outer.segmentation.smaller)
    digest = sha256((outer.path / entries[index].folder / MANIFEST).read_bytes())
    entries[index] = dataclasses.replace(entries[index], sha256=digest)
    manifest = dataclasses.replace(outer.segmentation, smaller=tuple(entries))
    (outer.path / MANIFEST).write_text(manifest.to_json())
    return Bundle.open(outer.path)


# --- the manifest ---------------------------------------------------------------------------------

sides = st.tuples(st.integers(1, 64), st.integers(1, 64))


@settings(deadline=None)
@given(size=sides, smaller=st.lists(sides, max_size=4))
def test_which_sizes_may_stand_together(size: tuple[int, int], smaller: list[tuple[int, int]]) -> None:
    together = [size, *smaller]
    pixels = [height * width for height, width in together]
    good = (
        len(set(together)) == len(together)
        and all(height <= size[0] and width <= size[1] for height, width in smaller)
        and pixels == sorted(pixels, reverse=True)
    )
    if good:
        check_smaller(size, smaller)
    else:
        with pytest.raises(ValueError, match=r"expected|is the largest"):
            check_smaller(size, smaller)


@settings(deadline=None)
@given(size=sides, digest=st.binary(min_size=32, max_size=32).map(bytes.hex), becoming=st.booleans())
def test_an_entry_comes_back_as_it_was_written(
    original: Bundle, size: tuple[int, int], digest: str, becoming: bool
) -> None:
    large = dataclasses.replace(original.segmentation.preprocess, size=(65, 65))
    entry = Smaller(size=size, sha256=digest, becoming=digest if becoming else "")
    manifest = dataclasses.replace(original.segmentation, preprocess=large, smaller=(entry,))
    assert manifest_from_json(manifest.to_json()) == manifest
    assert entry.folder == f"sizes/{size[0]}x{size[1]}" == smaller_folder(size)


@settings(deadline=None)
@given(key=st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1))
def test_unknown_keys_of_an_entry_are_refused(original: Bundle, key: str) -> None:
    data = json.loads(original.manifest.to_json())
    if key in data["smaller"][0]:
        return
    data["smaller"][0][key] = 1
    with pytest.raises(ManifestError, match=rf"unknown key smaller\[0\].{key}"):
        manifest_from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"becoming": "abc"}, "64 hexadecimal digits"),
        ({"size": [16]}, r"smaller\[0\].size has 1 values, expected 2"),
        ({"size": [0, 24]}, "at least 1"),
        ({"size": [64, 24]}, "64x24 is higher or wider than the size 32x48"),
        ({"size": [32, 48]}, "32x48 is there twice"),
        ({"size": [8, 11]}, "8x12 comes late"),
        ({"size": None}, r"smaller\[0\].size"),
    ],
)
def test_entries_that_make_no_sense(original: Bundle, change: dict[str, Any], message: str) -> None:
    data = json.loads(original.manifest.to_json())
    data["smaller"][0] |= change
    with pytest.raises(ManifestError, match=message):
        manifest_from_json(json.dumps(data))


def test_a_bundle_of_one_size_is_written_as_before(make_bundle: MakeBundle) -> None:
    """So that an older PixelRT reads it."""
    made: Bundle = make_bundle()
    assert "smaller" not in json.loads((made.path / MANIFEST).read_text())
    assert made.smaller == ()


def test_a_generator_has_no_smaller_sizes() -> None:
    with fake_generator(lambda inputs: np.zeros((8, 8, 3), np.uint8), size=(8, 8, 3), latent=4) as generator:
        assert generator.bundle.smaller == ()


# --- opening --------------------------------------------------------------------------------------


def test_smaller_sizes_are_bundles(bundle: Bundle) -> None:
    assert [each.segmentation.preprocess.size for each in bundle.smaller] == list(SIZES[1:])
    for each in bundle.smaller:
        assert each.path == bundle.path / "sizes" / size_name(each.segmentation.preprocess.size)
        assert Bundle.open(each.path).manifest == each.manifest
        assert each.read(each.model)
        with pixelrt.load(each, device="cpu") as segmenter:
            assert segmenter.at_sizes() == (segmenter,)


def test_a_manifest_that_was_changed_is_refused(bundle: Bundle) -> None:
    place = bundle.path / "sizes/16x24"
    changed(place, name="another")
    with pytest.raises(BundleError, match=r"sizes/16x24/manifest.json has SHA-256 \w+..., the manifest of"):
        _ = bundle.smaller
    with pytest.raises(BundleError, match="it was changed, or engines were added"), _loaded(bundle) as opened:
        opened.at_sizes()


def test_a_model_that_was_changed_is_refused(bundle: Bundle) -> None:
    model = bundle.path / "sizes/8x12/model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with _loaded(bundle) as opened, pytest.raises(BundleError, match=r"8x12/model.onnx has SHA-256"):
        opened.at_sizes()


def test_a_smaller_size_that_is_missing(bundle: Bundle) -> None:
    shutil.rmtree(bundle.path / "sizes/8x12")
    with pytest.raises(BundleError, match=r"sizes/8x12 is not a bundle: no such folder"):
        _ = bundle.smaller
    with _loaded(bundle) as opened:  # the largest needs nothing of it
        assert opened(frame()).mask is not None


def test_a_folder_that_leads_elsewhere(bundle: Bundle, tmp_path: Path) -> None:
    place = bundle.path / "sizes/8x12"
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="leads out of the bundle"):
        _ = bundle.smaller


@pytest.mark.parametrize("what", ["heads", "preprocess"])
def test_other_heads_or_colours_are_refused(bundle: Bundle, what: str) -> None:
    place = bundle.path / "sizes/16x24"
    data = json.loads((place / MANIFEST).read_text())
    if what == "heads":
        data["heads"][0]["classes"][0]["name"] = "rouge"
    else:
        data["preprocess"]["color"] = "bgr"
    changed(place, **data)
    with pytest.raises(ManifestError, match=f"its {what} differ from those of the bundle that it is in"):
        _ = vouched(bundle).smaller


def test_sizes_do_not_nest(bundle: Bundle) -> None:
    place = bundle.path / "sizes/16x24"
    changed(place, smaller=[{"size": [8, 12], "sha256": DIGEST}])
    with pytest.raises(ManifestError, match="one size was expected there"):
        _ = vouched(bundle).smaller


# --- engines --------------------------------------------------------------------------------------


def test_an_engine_for_a_smaller_size(bundle: Bundle) -> None:
    Bundle.open(bundle.path / "sizes/16x24").add_engine(b"plan", ENGINE)
    opened = Bundle.open(bundle.path)
    assert [len(each.manifest.artifacts) for each in (opened, *opened.smaller)] == [1, 2, 1]
    assert opened.segmentation.smaller[0].becoming == ""
    assert opened.smaller[0].read(opened.smaller[0].manifest.artifacts[1]) == b"plan"
    opened.smaller[1].add_engine(b"plan", ENGINE)
    opened.add_engine(b"plan", ENGINE)
    opened = Bundle.open(bundle.path)
    assert [len(each.manifest.artifacts) for each in (opened, *opened.smaller)] == [2, 2, 2]


def test_a_relative_path_finds_the_larger_bundle(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.path / "sizes/16x24")
    Bundle.open(".").add_engine(b"plan", ENGINE)
    assert len(Bundle.open(bundle.path).smaller[0].manifest.artifacts) == 2


def test_an_engine_does_not_vouch_for_what_was_changed(bundle: Bundle) -> None:
    place = bundle.path / "sizes/16x24"
    changed(place, name="another")
    before = {file: file.read_bytes() for file in bundle.path.rglob("*") if file.is_file()}
    with pytest.raises(BundleError, match="it was changed"):
        Bundle.open(place).add_engine(b"plan", ENGINE)
    assert {file: file.read_bytes() for file in bundle.path.rglob("*") if file.is_file()} == before


def test_a_copy_of_a_smaller_size_is_a_bundle_of_its_own(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path / "sizes/16x24", tmp_path / "alone")
    assert len(Bundle.open(tmp_path / "alone").add_engine(b"plan", ENGINE).manifest.artifacts) == 2
    assert [len(each.manifest.artifacts) for each in Bundle.open(bundle.path).smaller] == [1, 1]


@pytest.mark.parametrize("writes", range(5))
def test_a_crash_at_any_moment_leaves_a_bundle(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Engine, larger manifest, smaller manifest, larger one again: after each, all can be opened."""
    write, count = write_file, iter(range(10))

    def interrupted(path: Path, content: bytes) -> None:
        if next(count) == writes:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr("pixelrt.bundle.opened.write_file", interrupted)
    place = bundle.path / "sizes/16x24"
    if writes < 4:
        with pytest.raises(KeyboardInterrupt):
            Bundle.open(place).add_engine(b"plan", ENGINE)
    else:
        Bundle.open(place).add_engine(b"plan", ENGINE)
    monkeypatch.undo()
    assert len(Bundle.open(bundle.path).smaller[0].manifest.artifacts) == 1 + (writes >= 3)
    Bundle.open(place).add_engine(b"plan", ENGINE)
    opened = Bundle.open(bundle.path)
    assert len(opened.smaller[0].manifest.artifacts) == 2 and not opened.segmentation.smaller[0].becoming


# --- segmenters -----------------------------------------------------------------------------------


def _loaded(bundle: Bundle) -> Segmenter:
    return pixelrt.load(bundle, task="segmentation", device="cpu", precision="float32", threads=1)


def test_segmenters_of_all_sizes(bundle: Bundle) -> None:
    with _loaded(bundle) as segmenter:
        opened = segmenter.at_sizes()
        assert opened[0] is segmenter
        assert all(first is second for first, second in zip(opened, segmenter.at_sizes(), strict=True))
        assert [each.network_size for each in opened] == list(SIZES)
        assert {each.session.info.precision for each in opened} == {"float32"}
        for each in opened:
            result = each(frame())
            assert result.mask is not None and result.mask.shape == each.network_size
            assert result.grid is not None and result.grid.shape == (3, 2, 3)
            half = each.network_size[1] // 2
            assert set(result.mask[:, : half - 1].flat) == {0} and set(result.mask[:, half + 1 :].flat) == {2}
    for each in opened:
        with pytest.raises(DeviceError, match="closed"):
            each(frame())


def test_smaller_segmenters_take_the_same_colour_order(bundle: Bundle) -> None:
    with pixelrt.load(bundle, task="segmentation", device="cpu", color="bgr") as segmenter:
        for each in segmenter.at_sizes():
            assert each.color == "bgr"
            mask = each(frame()[..., ::-1]).mask
            assert mask is not None and set(mask[:, 0].flat) == {0} and set(mask[:, -1].flat) == {2}


def test_a_clone_opens_its_own(bundle: Bundle) -> None:
    with _loaded(bundle) as segmenter, segmenter.clone() as other:
        pairs = list(zip(segmenter.at_sizes(), other.at_sizes(), strict=True))
        assert len(pairs) == 3 and all(one.session is not two.session for one, two in pairs)


def test_one_that_cannot_be_opened_leaves_none_open(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[tuple[int, int]] = []
    close = Segmenter.close
    monkeypatch.setattr(Segmenter, "close", lambda self: (closed.append(self.network_size), close(self))[1])
    (bundle.path / "sizes/8x12/model.onnx").unlink()
    with _loaded(bundle) as segmenter:
        with pytest.raises(BundleError, match="cannot be read"):
            segmenter.at_sizes()
        assert closed == [SIZES[1]]
        assert segmenter(frame()).mask is not None


def test_a_segmenter_that_was_not_loaded_says_so(bundle: Bundle) -> None:
    with _loaded(bundle) as segmenter:
        alone = Segmenter(bundle, segmenter.session)
        with pytest.raises(InputError, match=r"open the bundle with pixelrt.load"):
            alone.at_sizes()


def test_child_processes_of_all_sizes(bundle: Bundle) -> None:
    with isolate(bundle, device="cpu", warm_up=(64, 96)) as segmenter, _loaded(bundle) as here:
        opened = segmenter.at_sizes()
        assert [each.network_size for each in opened] == list(SIZES)
        assert len({each.pid for each in opened}) == 3
        for there, local in zip(opened, here.at_sizes(), strict=True):
            assert np.array_equal(there(frame()).mask, local(frame()).mask)
    assert not any(each.alive for each in opened)


def test_fakes_have_sizes_too() -> None:
    seen: list[tuple[int, ...]] = []

    def compute(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen.append(image.shape[:2])
        return np.zeros(image.shape[:2], np.uint8)

    with fake_segmenter(compute, size=(32, 48), smaller=[(16, 24)]) as segmenter:
        for each in segmenter.at_sizes():
            each(frame())
    assert seen == [(32, 48), (16, 24)]
    with pytest.raises(InputError, match="smaller: the smaller size 64x24 is higher or wider"):
        fake_segmenter(compute, size=(32, 48), smaller=[(64, 24)])
