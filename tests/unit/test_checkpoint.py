"""Weights from files: every form that is understood, and every file that is not weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pixelrt.errors import CheckpointError
from pixelrt_export.checkpoint import apply_state, load_state
from pixelrt_export.models import UNet


def network(width: int = 4) -> UNet:
    torch.manual_seed(3)
    return UNet(3, 2, (width, 8))


@pytest.mark.parametrize("nested", ["", "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_every_usual_form_is_read(tmp_path: Path, nested: str, prefix: str) -> None:
    source, path = network(), tmp_path / "net.pth"
    state: object = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save({nested: state, "epoch": 7} if nested else state, path)
    target = UNet(3, 2, (4, 8))
    apply_state(target, load_state(path), path)
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(network().state_dict(), path)
    assert load_state(path).keys() == network().state_dict().keys()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>sign in</html>", "is a web page"),
        (b"\x80\x02nonsense" * 20, "copy or save it again|would run code"),
    ],
)
def test_what_is_no_checkpoint_is_explained(
    tmp_path: Path, suffix: str, content: bytes, message: str
) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_state(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_cut_short_is_explained(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save(network().state_dict(), path)
    else:
        save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="it was cut short"):
        load_state(path)


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(nn.Sequential(nn.Conv2d(3, 3, 1)), path)
    with pytest.raises(CheckpointError, match=r"whole pickled module.*would run code.*state_dict\(\)"):
        load_state(path)


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        ([1, 2], "holds a list, expected a state dict"),
        ({"epoch": 3}, r"0 tensors and 1 other entries \(epoch\)"),
        ({}, "0 tensors"),
    ],
)
def test_no_state_dict_is_explained(tmp_path: Path, loaded: object, message: str) -> None:
    path = tmp_path / "net.pt"
    torch.save(loaded, path)
    with pytest.raises(CheckpointError, match=message):
        load_state(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth does not exist"):
        load_state(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_state(tmp_path)
    (tmp_path / "net.h5").write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"ends in '\.h5', expected \.safetensors"):
        load_state(tmp_path / "net.h5")


def test_another_architecture_is_explained_and_nothing_loaded(tmp_path: Path) -> None:
    target = UNet(3, 2, (6, 8))
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = network().state_dict()
    state["extra.weight"] = torch.zeros(1)
    del state["classify.bias"]
    with pytest.raises(
        CheckpointError, match=r"another architecture than UNet: 1 missing \(classify\.bias\)"
    ) as caught:
        apply_state(target, state, tmp_path / "net.pth")
    assert "1 not in the model (extra.weight)" in str(caught.value)
    assert "the model has (6, 3, 3, 3)" in str(caught.value)
    assert all(torch.equal(target.state_dict()[name], tensor) for name, tensor in before.items())
