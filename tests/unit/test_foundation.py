"""Error tree, manifest, strict decoding and bundles."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelrt import errors
from pixelrt.bundle import MANIFEST, Bundle, check_folder, sha256, write_file, write_folder
from pixelrt.dependency import require
from pixelrt.errors import BundleError, ManifestError, MissingDependency, PixelRTError
from pixelrt.manifest import (
    SCHEMA,
    Artifact,
    Axis,
    ClassInfo,
    Head,
    Island,
    Manifest,
    Precision,
    Preprocess,
    SegmentationCheck,
    SegmentationGate,
    SegmentationManifest,
    Source,
    Tensor,
    manifest_from_json,
)
from pixelrt.strict import type_of

MODEL = b"the portable graph"


def manifest(**changes: object) -> Manifest:
    whole = SegmentationManifest(
        schema=SCHEMA,
        name="road",
        task="segmentation",
        created="2026-01-02T03:04:05+00:00",
        tools={"pixelrt": "0.1"},
        inputs=(Tensor(name="frame", dtype="uint8", shape=("batch", "height", "width", 3)),),
        outputs=(Tensor(name="mask", dtype="uint8", shape=("batch", 32, 48)),),
        axes={"batch": Axis(min=1, opt=1, max=4)},
        preprocess=Preprocess(size=(32, 48), channels=3, mean=(0.5, 0.5, 0.5), std=(1, 1, 1), color="rgb"),
        heads=(
            Head(
                name="scene",
                classes=(ClassInfo(name="road", color=(128, 64, 128)),),
                activation="softmax",
                outputs={"mask": "mask"},
                grid=(2, 3),
            ),
        ),
        precision=Precision(
            requested="fp16",
            layers={"fp16": 7},
            islands=(Island(layer="Conv_3", max_abs=7e4, reason="overflow"),),
        ),
        artifacts=(Artifact(file="model.onnx", kind="onnx", sha256=sha256(MODEL), size_bytes=len(MODEL)),),
        gate=SegmentationGate(skipped=False, agreement=0.999, miou_drop=0.002, images="val", num_images=3),
        source=Source(model="UNet"),
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def write_bundle(folder: Path, written: Manifest) -> None:
    def fill(inside: Path) -> None:
        (inside / "model.onnx").write_bytes(MODEL)
        (inside / "manifest.json").write_text(written.to_json())

    write_folder(folder, fill)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    write_bundle(tmp_path / "road", manifest())
    return Bundle.open(tmp_path / "road")


class TestErrors:
    def test_the_drawn_tree_is_the_tree(self) -> None:
        drawn = {
            line.split("─ ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "─ " in line
        }
        defined = {name for name, _ in inspect.getmembers(errors, inspect.isclass)}
        assert drawn == defined - {"PixelRTError"}

    def test_all_are_pixelrt_errors(self) -> None:
        assert all(issubclass(kind, PixelRTError) for _, kind in inspect.getmembers(errors, inspect.isclass))

    def test_a_missing_library_names_the_extra(self) -> None:
        with pytest.raises(
            MissingDependency, match=r"reading video needs .*no_such.*pip install 'pixelrt\[video\]'"
        ):
            require("no_such_library", "video", "reading video")

    def test_a_library_that_cannot_be_loaded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "half_a_library.py").write_text("from math import no_such_thing\n")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(
            MissingDependency,
            match=r"cannot be loaded: .*no_such_thing.*pip install --force-reinstall 'pixelrt\[video\]'",
        ):
            require("half_a_library", "video", "reading video")


class TestImport:
    def test_importing_loads_no_library(self) -> None:
        heavy = "'numpy', 'cv2', 'torch', 'onnx', 'openvino'"
        code = f"import pixelrt, sys; print([name for name in ({heavy}) if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


class TestManifest:
    def test_survives_the_round_trip(self) -> None:
        assert manifest_from_json(manifest().to_json()) == manifest()

    @given(st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 99))
    def test_any_values_survive(self, name: str, max_abs: float, batch: int) -> None:
        precision = Precision(
            requested="bf16", layers={name: 1}, islands=(Island(layer=name, max_abs=max_abs, reason=name),)
        )
        written = manifest(name=name, precision=precision, axes={"batch": Axis(min=1, opt=batch, max=batch)})
        assert manifest_from_json(written.to_json()) == written

    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [
            (("nmae",), "x", r"unknown key nmae \(did you mean 'name'\?\)"),
            (("preprocess", "sise"), 1, r"unknown key preprocess\.sise \(did you mean 'size'\?\)"),
            (
                ("task",),
                "segmentatoin",
                r"task is 'segmentatoin', expected one of 'segmentation', 'generation'",
            ),
            (("name",), 3, r"name is int '3', expected str"),
            (("preprocess", "size"), [1, 2, 3], r"preprocess\.size has 3 values, expected 2"),
            (("axes", "batch", "max"), 0, r"expected 1 <= min <= opt <= max"),
            (("schema",), 99, r"schema 99, this PixelRT reads schema 1"),
        ],
    )
    def test_a_surprise_is_named(self, place: tuple[str, ...], value: object, message: str) -> None:
        data = json.loads(manifest().to_json())
        inner = data
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        with pytest.raises(ManifestError, match=message):
            manifest_from_json(json.dumps(data))

    def test_a_missing_key_is_named(self) -> None:
        data = json.loads(manifest().to_json())
        del data["heads"][0]["classes"]
        with pytest.raises(ManifestError, match=r"missing key heads\[0\]\.classes"):
            manifest_from_json(json.dumps(data))

    @given(st.text(max_size=40))
    def test_no_text_gets_through_by_accident(self, text: str) -> None:
        with pytest.raises(ManifestError):
            manifest_from_json(text)

    def test_the_gate_answers_per_backend_and_precision(self) -> None:
        def check(head: str, passed: bool) -> SegmentationCheck:
            return SegmentationCheck(
                backend="openvino",
                device="cpu",
                precision="bfloat16",
                passed=passed,
                head=head,
                agreement=0.99,
                miou_drop=None,
                miou=None,
                max_logit_difference=None,
            )

        gate = dataclasses.replace(manifest().gate, checks=(check("scene", True), check("lanes", False)))
        assert gate.passed("openvino", "bfloat16") is False
        assert gate.passed("openvino", "float32") is None


class TestBundle:
    def test_reads_what_was_written(self, bundle: Bundle) -> None:
        assert bundle.read(bundle.model) == MODEL
        assert bundle.manifest == manifest()

    def test_no_bundle(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"nowhere is not a bundle: no such folder"):
            Bundle.open(tmp_path / "nowhere")
        with pytest.raises(BundleError, match=r"is not a bundle: no manifest\.json in it"):
            Bundle.open(tmp_path)

    def test_a_folder_of_somebody_else(self, bundle: Bundle) -> None:
        user = os.geteuid()
        bundle.path.chmod(0)
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(
                BundleError, match=r"manifest\.json cannot be read: Permission denied; who runs"
            ):
                Bundle.open(bundle.path)
        finally:
            os.seteuid(user)
            bundle.path.chmod(0o755)

    def test_a_changed_byte_is_found(self, bundle: Bundle) -> None:
        (bundle.path / "model.onnx").write_bytes(MODEL[:-1] + b"?")
        with pytest.raises(BundleError, match=r"has SHA-256 .* changed or damaged"):
            bundle.read(bundle.model)

    def test_a_cut_file_is_found(self, bundle: Bundle) -> None:
        (bundle.path / "model.onnx").write_bytes(MODEL[:5])
        with pytest.raises(BundleError, match=r"has 5 bytes, the manifest says 18"):
            bundle.read(bundle.model)

    def test_a_missing_file_is_found(self, bundle: Bundle) -> None:
        (bundle.path / "model.onnx").unlink()
        with pytest.raises(BundleError, match=r"cannot be read \(No such file or directory\)"):
            bundle.read(bundle.model)

    def test_nothing_outside_the_bundle_is_read(self, bundle: Bundle, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(MODEL)
        outside = dataclasses.replace(bundle.model, file="../secret")
        with pytest.raises(BundleError, match="outside the bundle"):
            bundle.read(outside)

    def test_an_engine_is_kept_byte_for_byte(self, bundle: Bundle) -> None:
        entry = Artifact(file="a.engine", kind="engine", sha256="", size_bytes=0, targets=("sm86",))
        grown = bundle.add_engine(b"plan", entry).add_engine(b"plan 2", entry)
        assert (bundle.path / "a.engine").read_bytes() == b"plan 2"
        assert Bundle.open(bundle.path).manifest == grown.manifest
        assert [artifact.file for artifact in grown.manifest.artifacts] == ["model.onnx", "a.engine"]

    def test_processes_that_add_engines_do_not_lose_each_other(self, bundle: Bundle) -> None:
        workers = [
            subprocess.Popen([sys.executable, "-c", ADD_ENGINES, bundle.path, str(worker)])
            for worker in range(4)
        ]
        assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
        names = {artifact.file for artifact in Bundle.open(bundle.path).manifest.artifacts}
        assert names == {
            "model.onnx",
            *(f"{worker}-{turn}.engine" for worker in range(4) for turn in range(5)),
        }


ADD_ENGINES = """
import sys
from pixelrt.bundle import Bundle
from pixelrt.manifest import Artifact
for turn in range(5):
    name = f"{sys.argv[2]}-{turn}.engine"
    entry = Artifact(file=name, kind="engine", sha256="", size_bytes=0)
    Bundle.open(sys.argv[1]).add_engine(name.encode(), entry)
"""


class TestWriting:
    def test_a_failure_leaves_the_old_bundle(self, bundle: Bundle) -> None:
        def fill(inside: Path) -> None:
            (inside / "model.onnx").write_bytes(b"half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_folder(bundle.path, fill)
        assert bundle.read(bundle.model) == MODEL
        assert [path.name for path in bundle.path.parent.iterdir()] == ["road"]

    def test_a_disk_that_is_read_only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """There, removing a file that is not there is refused too, and must not hide why."""

        def refuse(self: Path, *arguments: object, **options: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(Path, "open", refuse)
        monkeypatch.setattr(Path, "unlink", refuse)
        with pytest.raises(
            BundleError, match=r"cannot be written \(Read-only file system\); nothing was changed"
        ):
            write_file(tmp_path / "engine", b"plan")

    def test_a_full_disk_leaves_nothing(self, tmp_path: Path) -> None:
        def fill(inside: Path) -> None:
            (inside / "model.onnx").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(
            BundleError, match=r"cannot be written \(No space left on device\); nothing was changed"
        ):
            write_folder(tmp_path / "road", fill)
        assert list(tmp_path.iterdir()) == []

    def test_a_bundle_takes_the_place_of_a_bundle(self, bundle: Bundle) -> None:
        write_bundle(bundle.path, manifest(name="newer"))
        assert Bundle.open(bundle.path).manifest.name == "newer"
        assert [path.name for path in bundle.path.parent.iterdir()] == ["road"]

    def test_a_folder_of_something_else_is_not_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("ten years of work")
        with pytest.raises(BundleError, match="exists and is not a bundle"):
            write_folder(tmp_path, lambda inside: None)
        assert (tmp_path / "thesis.tex").read_text() == "ten years of work"

    def test_a_file_that_cannot_be_written_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="cannot be written"):
            write_file(tmp_path / "missing" / "file", b"x")
        write_file(tmp_path / "file", bytes(np.arange(3, dtype=np.uint8)))
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("at", ["rename", "fill"])
def test_ctrl_c_at_any_moment_keeps_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    write_bundle(tmp_path / "road", manifest())
    bundle = Bundle.open(tmp_path / "road")
    before = {file.name: file.read_bytes() for file in bundle.path.iterdir()}
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        if at == "rename" and str(target).endswith(".old"):
            raise KeyboardInterrupt
        return moved

    def fill(folder: Path) -> None:
        (folder / "new").write_bytes(b"new")
        if at == "fill":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(bundle.path, fill)
    assert {file.name: file.read_bytes() for file in bundle.path.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["road"]


def test_places_where_no_bundle_can_be_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "holiday.jpg").write_text("")
    for place, message in [
        ("file", "exists and is not a bundle"),
        ("others", "exists and is not a bundle"),
        ("file/deep/bundle", "is no folder; choose another place"),
    ]:
        with pytest.raises(BundleError, match=message):
            check_folder(tmp_path / place)
    assert check_folder(tmp_path / "new" / "bundle") == (tmp_path / "new" / "bundle").resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "others"]


def test_the_folder_that_one_stands_in_can_become_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(Path(), lambda inside: (inside / MANIFEST).write_text("{}") and None)
    assert (tmp_path / MANIFEST).is_file()


def test_a_manifest_error_names_the_folder_and_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(ManifestError, match=rf"{tmp_path}: manifest.json has schema None"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match=rf"a file; did you mean {tmp_path}\?"):
        Bundle.open(tmp_path / MANIFEST)


@pytest.mark.parametrize(
    ("value", "expected"),
    [({}, "a dict"), (3, "an int"), (np.zeros(2), "an ndarray"), (None, "a NoneType"), (np.add, "a ufunc")],
)
def test_a_type_has_its_article(value: object, expected: str) -> None:
    assert type_of(value) == expected
