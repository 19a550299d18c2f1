"""What of a module is exported, and which of its layers behave as in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pixelrt.errors import ExportError
from pixelrt.strict import suggestion
from pixelrt_export.recipe.sections import AsInTraining

_LAYERS: dict[AsInTraining, tuple[type[nn.Module], str]] = {
    "dropout": (_DropoutNd, "nn.Dropout (functional.dropout in forward() needs training=True there)"),
    "batch_norm": (_BatchNorm, "nn.BatchNorm2d (functional.batch_norm cannot be changed)"),
}


class Method(nn.Module):
    """A method of a module, as a module: a VAE's `decode`, say."""

    def __init__(self, owner: nn.Module, method: str) -> None:
        super().__init__()
        self.owner = owner
        self.method = method

    @property
    def forward(self) -> Callable[..., Any]:  # type: ignore[override]
        """The method."""
        found: Callable[..., Any] = getattr(self.owner, self.method)
        return found


def part_of(module: nn.Module, part: str, name: str) -> nn.Module:
    """A submodule, or a method of one as a module.

    Args:
        module: The whole network.
        part: Dotted path of attributes: `decoder`, `net.up.0`, `vae.decode`.
        name: What to call the network in messages.

    Raises:
        ExportError: If there is no such submodule or method.
    """
    found: nn.Module = module
    *owners, last = part.split(".")
    for index, step in enumerate(owners):
        child = _children(found).get(step)
        if child is None:
            raise ExportError(_no_part(found, step, ".".join([name, *owners[:index]])))
        found = child
    child = _children(found).get(last)
    if child is not None:
        return child
    if last in _methods(found):
        return Method(found, last)
    raise ExportError(_no_part(found, last, ".".join([name, *owners])))


def _no_part(module: nn.Module, step: str, name: str) -> str:
    children, methods = list(_children(module)), _methods(module)
    return (
        f"part: {name} has no submodule or method {step!r}{suggestion(step, [*children, *methods])}; it has "
        f"the submodules {', '.join(children) or '(none)'}"
        + (f" and the methods {', '.join(methods)}" if methods else "")
    )


def _children(module: nn.Module) -> dict[str, nn.Module]:
    """Submodules by name, those of two names under both."""
    every = module.named_modules(remove_duplicate=False)
    return {path: child for path, child in every if path and "." not in path}


def _methods(module: nn.Module) -> list[str]:
    """Public methods that its class has beyond those of every module."""
    return [
        name
        for name in dir(type(module))
        if not name.startswith("_") and not hasattr(nn.Module, name) and callable(getattr(type(module), name))
    ]


def behave_as_in_training(module: nn.Module, layers: Sequence[AsInTraining], name: str) -> nn.Module:
    """Switch layers to what they did in training, in a module of our own that is in eval mode.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017,
    section 3.3: dropout stays on, and batch norm takes the statistics of the test batch, which is one image.

    Dropout draws. Batch norm becomes a norm by the statistics of each image alone, so that a result does not
    depend on the images that happen to share its batch: with a batch of one that is what batch norm does in
    training.

    Returns:
        The module, or another one where the module itself is such a layer.

    Raises:
        ExportError: If there are no such layers.
    """
    for kind in layers:
        wanted, example = _LAYERS[kind]
        every = module.named_modules(remove_duplicate=False)  # a layer may stand in several places
        found = [(path, layer) for path, layer in every if isinstance(layer, wanted)]
        if not found:
            raise ExportError(
                f'as_in_training names "{kind}", and {name} has no such layers; leave it out, or make the '
                f"layers {example}"
            )
        for path, layer in found:
            if isinstance(layer, _BatchNorm):
                module = _replaced(module, path, ImageNorm(layer, path or name))
            else:
                layer.train()
    return module


def _replaced(module: nn.Module, path: str, layer: nn.Module) -> nn.Module:
    if not path:
        return layer
    module.set_submodule(path, layer)
    return module


class ImageNorm(nn.Module):
    """Batch norm by the statistics of each image: what batch norm in training does to a batch of one.

    Args:
        layer: The batch norm, of whose statistics nothing is used.
        path: Where it is, for messages.
    """

    def __init__(self, layer: _BatchNorm, path: str) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.eps = layer.eps
        self.path = path

    def forward(self, features: Tensor) -> Tensor:
        """Normalise.

        Args:
            features: float[N, C, ...].

        Raises:
            ExportError: If there is one value per channel: it would be its own mean.
        """
        if features.ndim < 3 or features.shape[2:].numel() == 1:
            raise ExportError(
                f'as_in_training = ["batch_norm"]: {self.path} normalises {list(features.shape[1:])}, one '
                "value "
                "per channel of an image, which has no variance; more were expected. Leave batch_norm out "
                "(the running statistics of training are used then), or take this layer out of the network"
            )
        return functional.instance_norm(features, weight=self.weight, bias=self.bias, eps=self.eps)
