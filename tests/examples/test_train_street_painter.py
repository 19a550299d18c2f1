"""The training script from its command line to its results, on a few small scenes.

In this process: starting Python with PyTorch takes longer than all that is tested here.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import cv2
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pixelrt.video.drive import scene
from pixelrt_export.checkpoint import apply_state, load_state
from pixelrt_export.models import Pix2PixGenerator, SPADEGenerator

SCRIPT = Path(__file__).parents[2] / "examples" / "train_street_painter.py"
SMALL = (
    *("--scenes", "4", "--draw", "64", "96", "--held-out", "1", "--size", "32", "64", "--width", "4"),
    *("--epochs", "2", "--batch", "2", "--device", "cpu", "--threads", "1"),
)
OTHER = SCRIPT.parents[1] / "engines" / "road-unet" / "road-unet.safetensors"
Train = Callable[..., None]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module, and PyTorch's settings as they were."""
    specification = importlib.util.spec_from_file_location("train_street_painter", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))
        patch.setitem(__import__("sys").modules, "train_street_painter", module)
        specification.loader.exec_module(module)
        yield module
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def train(script: ModuleType) -> Train:
    def run(*arguments: str | Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [str(SCRIPT), *SMALL, *map(str, arguments)])
            script.main()

    return run


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one run, with its scenes beside them."""
    out = tmp_path_factory.mktemp("painter") / "whole"
    train("--out", out, "--cache", out.with_name("scenes.npz"))
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(folder / "street-painter.safetensors")
    return tensors


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return all(torch.equal(one[name], other[name]) for name in one)


def test_trains_paints_and_judges(whole: Path) -> None:
    painter = SPADEGenerator(widths=(4, 8, 16, 32, 40, 40), hidden=8)
    file = whole / "street-painter.safetensors"
    assert {tensor.dtype for tensor in weights(whole).values()} == {torch.float16, torch.int64}
    apply_state(painter, load_state(file), file)
    for epoch in (1, 2):
        sheet = cv2.imread(str(whole / f"sheet-{epoch:03}.png"))
        assert sheet is not None
        assert sheet.shape == (32, 3 * 64, 3)
        assert sheet[:, -64:].std() > 1
    scores = json.loads((whole / "test.json").read_text())
    assert list(scores) == ["painted", "real", "flat"]
    assert list(scores["real"])[-2:] == ["bicyclist", "mIoU"]
    assert scores["real"]["mIoU"] > scores["flat"]["mIoU"] > 0


def test_shipped_weights_are_judged_alone(whole: Path, train: Train, tmp_path: Path) -> None:
    train("--out", tmp_path, "--evaluate", whole / "street-painter.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["test.json"]
    trained, stored = (json.loads((folder / "test.json").read_text()) for folder in (whole, tmp_path))
    assert stored["real"] == trained["real"]
    assert stored["painted"]["mIoU"] == pytest.approx(trained["painted"]["mIoU"], abs=2)


def test_the_seed_decides_the_weights_and_a_resumed_run_ends_in_the_same(
    whole: Path, train: Train, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--cache", whole.with_name("scenes.npz"), "--out")
    with monkeypatch.context() as patch:
        patch.setattr(script, "save_sheet", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(*arguments, tmp_path / "again")
    assert not same(whole, tmp_path / "again")
    train(*arguments, tmp_path / "again", "--resume")
    assert same(whole, tmp_path / "again")
    train(*arguments, tmp_path / "other", "--seed", "2")
    assert not same(whole, tmp_path / "other")


def test_dropout_is_the_same_in_a_resumed_run(
    whole: Path, train: Train, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--network", "pix2pix", "--cache", whole.with_name("scenes.npz"), "--out")
    train(*arguments, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(script, "save_sheet", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(*arguments, tmp_path / "parts")
    torch.rand(7)  # another process would have drawn other numbers
    train(*arguments, tmp_path / "parts", "--resume")
    assert same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "2"], r"is of a run with --seed 1, now 2\. Give what it was started with"),
        (["--epochs", "3", "--lr", "1e-3", "8e-4"], "--lr 0.0004 0.0008, now 0.001 0.0008"),
        (["--epochs", "3"], "--epochs 2, now 3"),
        (["--width", "8"], "--width 4, now 8"),
        (["--scenes", "3"], "--scenes 4, now 3; pictures 4, now 3"),
    ],
)
def test_a_run_is_not_resumed_under_other_options(
    whole: Path, train: Train, arguments: list[str], message: str
) -> None:
    before = (whole / "last.pt").read_bytes()
    with pytest.raises(SystemExit, match=message):
        train("--out", whole, "--cache", whole.with_name("scenes.npz"), "--resume", *arguments)
    assert (whole / "last.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "last.pt does not exist; start without --resume"),
        (b"no archive", "last.pt cannot be read, expected a last.pt; is it damaged"),
        ({"epoch": 1}, "last.pt says nothing of its run's options, expected a last.pt of this version"),
    ],
)
def test_what_is_no_run_is_not_resumed(
    whole: Path, train: Train, tmp_path: Path, content: bytes | dict[str, int] | None, message: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / "last.pt").write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / "last.pt")
    with pytest.raises(SystemExit, match=message):
        train("--out", tmp_path, "--cache", whole.with_name("scenes.npz"), "--resume")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch: 0, expected at least 1"),
        (["--held-out", "0"], "--held-out: 0, expected at least 1"),
        (["--epochs", "0"], "--epochs: 0, expected at least 1"),
        (["--seed", "-1"], r"--seed: -1, expected at least 0 and less than 2\^63"),
        (["--lr", "nan", "1"], "--lr: nan, expected a number from 0 on"),
        (["--decay", "2"], "--decay: 2, expected a number from 0 to 1"),
        (["--zoom", "0.5"], "--zoom: 0.5, expected a number from 1 on"),
        (["--device", "gpu"], "--device: 'gpu', expected cpu or cuda"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        train("--out", tmp_path / "out", *arguments)
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_pix2pix_on_a_folder_of_photographs(train: Train, tmp_path: Path) -> None:
    for offset, split in enumerate(("train", "test")):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
        for index in range(3):
            image, labels = scene(10 * offset + index, (72, 96))
            cv2.imwrite(str(tmp_path / split / "images" / f"{index}.jpg"), image[..., ::-1])
            cv2.imwrite(str(tmp_path / split / "labels" / f"{index}.png"), labels)
    train("--data", tmp_path, "--network", "pix2pix", "--out", tmp_path, "--epochs", "1")
    file = tmp_path / "street-painter.safetensors"
    apply_state(Pix2PixGenerator(widths=(8, 16, 32, 40, 40)), load_state(file), file)
    with pytest.raises(SystemExit, match=r"last.pt was trained with --network pix2pix, now spade"):
        train("--data", tmp_path, "--out", tmp_path / "c", "--init", tmp_path / "last.pt")
    train("--data", tmp_path, "--network", "pix2pix", "--out", tmp_path / "b", "--epochs", "1",
          "--init", tmp_path / "last.pt", "--lr", "0", "0")  # fmt: skip
    first, second = (torch.load(f / "last.pt", weights_only=True) for f in (tmp_path, tmp_path / "b"))
    name = "to_image.2.weight"
    assert torch.equal(first["painter"][name], second["painter"][name])


def test_training_teaches(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty steps on two pictures: the painted ones come nearer to them, the critic to its classes."""
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *SMALL, "--lr", "2e-3", "2e-3", "--decay", "0"])
    torch.manual_seed(0)
    options = script.parse_arguments()
    pairs = [script.window(scene(seed, (64, 96)), (32, 64), 1.0, (0.5, 0.5)) for seed in (1, 2)]
    run = script.Run(options, pairs * 40)
    images = script.to_tanh_range(torch.stack([torch.from_numpy(image) for image, _ in pairs]))
    labels = torch.stack([torch.from_numpy(labels) for _, labels in pairs]).long()
    losses = [dict(run.step(images, labels)) for _ in range(40)]
    assert losses[-1]["l1"] < 0.6 * losses[0]["l1"]
    assert losses[-1]["real"] < 0.8 * losses[0]["real"]
    assert not any(isinstance(layer, nn.ConvTranspose2d) for layer in run.painter.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "48", "64"], "--size 48 64: expected multiples of 32"),
        (["--batch", "7"], "4 pictures to train on, expected at least --batch 7"),
        (["--scenes", "5"], r"holds 4 scenes of size \(64, 96\), --scenes and --draw ask for 5 of"),
        (["--draw", "64", "128"], r"ask for 4 of \(64, 128\); delete it or name another file"),
        (["--data", "nowhere"], "holds no .jpg or .png; expected the CamVid layout"),
        (["--judge", "nowhere"], "nowhere does not exist; name the weights of a RoadUNet with --judge"),
        (["--init", "nowhere.pt"], "--init: nowhere.pt does not exist"),
        (["--evaluate", "nowhere.pt"], "--evaluate: nowhere.pt does not exist, expected a file with weights"),
        (["--evaluate", str(OTHER)], "another architecture than SPADEGenerator.*--network and --width of"),
    ],
)
def test_wrong_arguments_are_named(
    whole: Path, train: Train, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        train("--out", tmp_path, "--cache", whole.with_name("scenes.npz"), *arguments)
