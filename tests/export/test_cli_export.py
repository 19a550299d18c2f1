"""`pixelrt export` as a user meets it: real processes, their output, messages and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pixelrt.bundle import Bundle

NET = """
import torch
from torch import nn
from pathlib import Path

Path(__file__).with_name("loaded").touch()


class Net(nn.Module):
    def __init__(self, width=8, offset=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.lift = nn.Conv2d(3, width, 3, padding=1)
        self.out = nn.Conv2d(width, 11, 1)
        with torch.no_grad():
            self.lift.bias.fill_(offset)
            self.out.bias.sub_(offset * self.out.weight.sum((1, 2, 3)))

    def forward(self, image):
        return self.out(self.lift(image))
"""

RECIPE = """
[model]
entry = "net.py:Net"
{model}
[input]
size = [64, 96]
[[head]]
classes = "camvid11"
[gate]
images = "test://drive?frames=3&size=64x96&seed=5"
agreement = 0.99
miou_drop = 0.05
{gate}
"""


def write_recipe(folder: Path, *, model: str = "", gate: str = "", text: str = RECIPE) -> Path:
    (folder / "net.py").write_text(NET)
    path = folder / "recipe.toml"
    path.write_text(text.format(model=model, gate=gate))
    return path


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "pixelrt", "export", *map(str, words)]


def pixelrt_export(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1"},
        check=False,
    )


def left_in(folder: Path) -> set[str]:
    """What lies in a folder, but for what the tests put there."""
    mine = {"net.py", "recipe.toml", "loaded", "__pycache__", "weights.safetensors"}
    return {path.name for path in folder.iterdir()} - mine


class TestPassing:
    def test_the_path_alone_goes_to_standard_output(self, tmp_path: Path) -> None:
        done = pixelrt_export(write_recipe(tmp_path))
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{tmp_path / 'bundle'}\n"
        assert "network to ONNX ..." in done.stderr, "a log shows what is going on"
        assert (
            "\nwarning: no checkpoint: the weights are what the entry point gives (net.py:Net)" in done.stderr
        )
        for needed in (
            "openvino float32",
            "onnxruntime float16",
            "agreement",
            ">= 99 %",
            "passed",
            "report.html",
        ):
            assert needed in done.stderr
        bundle = Bundle.open(tmp_path / "bundle")
        assert bundle.manifest.name == tmp_path.name
        assert bundle.manifest.source.recipe == (tmp_path / "recipe.toml").read_text()
        assert left_in(tmp_path) == {"bundle"}

    def test_json_and_another_folder(self, tmp_path: Path) -> None:
        done = pixelrt_export(write_recipe(tmp_path), "-o", tmp_path / "deep" / "out", "--json", "--quiet")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        data = json.loads(done.stdout)
        assert data["bundle"] == str(tmp_path / "deep" / "out")
        assert data["gate"]["checks"][0]["backend"] == "openvino"
        (note, *_) = data["notes"]
        assert note.startswith("no checkpoint: the weights are what the entry point gives")
        report = json.loads((tmp_path / "deep" / "out" / "report.json").read_text())
        assert report["notes"] == data["notes"]
        page = (tmp_path / "deep" / "out" / "report.html").read_text()
        assert page.index('class="verdict warn notes"') < page.index(note[:40]) < page.index("<h2>Gate")

    def test_a_skipped_gate_is_said_and_recorded(self, tmp_path: Path) -> None:
        done = pixelrt_export(write_recipe(tmp_path), "--no-gate")
        assert done.returncode == 0, done.stderr
        assert "the gate was skipped: nobody has checked" in done.stderr
        assert Bundle.open(tmp_path / "bundle").manifest.gate.skipped

    def test_the_engines_that_a_recipe_names_are_built(self, tmp_path: Path) -> None:
        target = '[[target]]\nflavour = "tensorrt_rtx"\nsm = [75, 86]'
        recipe = write_recipe(tmp_path, gate=target)
        done = pixelrt_export(recipe)
        assert done.returncode == 0, done.stderr
        assert "engines: sm75, sm86" in done.stderr
        bundle = Bundle.open(tmp_path / "bundle")
        engines = [artifact for artifact in bundle.manifest.artifacts if artifact.kind == "engine"]
        assert [engine.targets for engine in engines] == [("sm75",), ("sm86",)]
        report = (bundle.path / "report.html").read_text()
        assert all(bundle.read(engine) and engine.file in report for engine in engines)
        done = pixelrt_export(recipe, "--no-engines", "--quiet")
        assert done.returncode == 0, done.stderr
        assert len(Bundle.open(tmp_path / "bundle").manifest.artifacts) == 1

    def test_a_checkpoint_is_named_in_the_manifest(self, tmp_path: Path) -> None:
        recipe = write_recipe(tmp_path, model='checkpoint = "weights.safetensors"')
        weights = {
            "lift.weight": torch.randn(8, 3, 3, 3),
            "lift.bias": torch.zeros(8),
            "out.weight": torch.randn(11, 8, 1, 1),
            "out.bias": torch.zeros(11),
        }
        save_file(weights, tmp_path / "weights.safetensors")
        done = pixelrt_export(recipe, "--quiet")
        assert done.returncode == 0, done.stderr
        bundle = Bundle.open(tmp_path / "bundle")
        assert len(bundle.manifest.source.checkpoint_sha256) == 64
        assert "no checkpoint" not in (bundle.path / "report.html").read_text()


class TestFailing:
    def test_a_failed_gate_has_its_own_exit_code(self, tmp_path: Path) -> None:
        """4000 + x has steps of 2 in half precision."""
        done = pixelrt_export(write_recipe(tmp_path, model="args = { offset = 4000.0 }"))
        assert done.returncode == 3
        assert done.stdout == ""
        error = done.stderr[done.stderr.index("error: ") :]
        assert "did not pass its gate on 3 images; no bundle was written" in error
        assert "onnxruntime float16: head 'scene' has " in error
        assert "the gate demands agreement = 99.00 %" in error
        assert "first differing layer: 'node_conv2d_1' (Conv), relative difference" in error
        assert "--no-gate" in error
        assert "Traceback" not in error
        assert left_in(tmp_path) == set()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"gate": "agrement = 0.9"}, "unknown key gate.agrement (did you mean 'agreement'?)"),
            (
                {"model": 'checkpoint = "weights.safetensors"'},
                "weights.safetensors does not exist, expected a file with weights",
            ),
            ({"model": "args = { widht = 4 }"}, "widht"),
            ({"text": RECIPE.replace("net.py:Net", "net.py:Nte")}, "Nte"),
            ({"text": RECIPE.replace("frames=3", "farmes=3")}, "did you mean 'frames'"),
            ({"text": RECIPE.replace('"camvid11"', '["road"]')}, "so 11 classes were expected"),
        ],
    )
    def test_what_a_recipe_may_get_wrong(self, tmp_path: Path, changes: dict[str, str], message: str) -> None:
        done = pixelrt_export(write_recipe(tmp_path, **changes), "--quiet")
        assert done.returncode == 1
        assert done.stdout == ""
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert left_in(tmp_path) == set()

    def test_the_checkpoint_of_another_architecture(self, tmp_path: Path) -> None:
        recipe = write_recipe(tmp_path, model='checkpoint = "weights.safetensors"')
        save_file({"lift.weight": torch.zeros(16, 3, 3, 3)}, tmp_path / "weights.safetensors")
        done = pixelrt_export(recipe, "--quiet")
        assert done.returncode == 1
        assert "is the checkpoint of another architecture than Net: 3 missing (" in done.stderr
        assert "1 of another shape (lift.weight (16, 3, 3, 3), the model has (8, 3, 3, 3))" in done.stderr
        assert left_in(tmp_path) == set()

    def test_a_target_whose_tensorrt_is_missing_is_refused_before_any_work(self, tmp_path: Path) -> None:
        recipe = write_recipe(tmp_path, gate='[[target]]\nflavour = "tensorrt"')
        done = pixelrt_export(recipe)
        assert done.returncode == 1
        assert "pip install 'pixelrt[tensorrt]', or leave the engines out (--no-engines" in done.stderr
        assert left_in(tmp_path) == set()

    def test_a_target_that_nobody_builds_is_refused_before_any_work(self, tmp_path: Path) -> None:
        recipe = write_recipe(tmp_path, gate='[[target]]\nflavour = "tensorrt_rtx"\nsm = [86, 87]')
        done = pixelrt_export(recipe)
        assert done.returncode == 1
        assert "[[target]] for sm87; TensorRT-RTX builds for sm75" in done.stderr
        assert left_in(tmp_path) == set()

    def test_no_recipe(self, tmp_path: Path) -> None:
        done = pixelrt_export(tmp_path / "nothing.toml")
        assert done.returncode == 1
        assert "nothing.toml cannot be read: No such file or directory; check the path" in done.stderr

    @pytest.mark.parametrize("library", ["torch", "onnxslim", "openvino"])
    def test_a_missing_library_is_named_at_once(self, tmp_path: Path, library: str) -> None:
        write_recipe(tmp_path)
        code = (
            f"import sys; sys.modules[{library!r}] = None\n"
            "from pixelrt.cli import main; sys.exit(main(['export', 'recipe.toml']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 1
        assert f"needs the library {library!r}, which is not installed" in done.stderr
        assert "pip install 'pixelrt[export]'" in done.stderr
        assert "Traceback" not in done.stderr
        assert left_in(tmp_path) == set()

    def test_a_misspelt_address_in_a_recipe_is_no_wrong_argument(self, tmp_path: Path) -> None:
        done = pixelrt_export(write_recipe(tmp_path, text=RECIPE.replace("?frames=3", "?frame=3")))
        assert done.returncode == 1
        assert "error: gate.images: test://drive has no option 'frame' (did you mean" in done.stderr
        assert left_in(tmp_path) == set()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (("agreement =", "agrement ="), "did you mean 'agreement'?"),
            (('images = "test:', '# "test:'), "no images were given, and the gate needs some: give a folder"),
            (
                ("test://drive?frames=3&size=64x96&seed=5", "net.yp"),
                "net.yp does not exist (did you mean 'net",
            ),
            (("agreement =", 'labels = "gone"\nagreement ='), "gate.labels: "),
        ],
    )
    def test_mistakes_of_a_recipe_are_found_before_pytorch_is_loaded(
        self, tmp_path: Path, changes: tuple[str, str], message: str
    ) -> None:
        write_recipe(tmp_path, text=RECIPE.replace(*changes))
        code = (
            "import sys\nfrom pixelrt.cli import main\nstatus = main(['export', 'recipe.toml'])\n"
            "print(not {'torch', 'cv2', 'onnx'}.isdisjoint(sys.modules))\nsys.exit(status)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert (done.returncode, done.stdout) == (1, "False\n")
        assert message in done.stderr


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 100
    while not path.exists():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)


class TestInterrupted:
    @pytest.mark.parametrize("after_s", [0.0, 2.0])
    def test_ctrl_c_leaves_nothing(self, tmp_path: Path, after_s: float) -> None:
        recipe = write_recipe(tmp_path)
        recipe.write_text(recipe.read_text().replace("frames=3&size=64x96", "frames=9000&size=480x640"))
        with subprocess.Popen(
            command(recipe), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                wait_for(tmp_path / "loaded", process)
                time.sleep(after_s)
                process.send_signal(signal.SIGINT)
                output, errors = process.communicate(timeout=100)
            finally:
                process.kill()
        assert process.returncode == 130
        assert output == ""
        assert "interrupted" in errors
        assert "Traceback" not in errors
        assert left_in(tmp_path) == set()
