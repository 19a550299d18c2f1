"""Layers that stay FP32 for the sake of another one: variances, what cancels later, and thresholds of noise.

All are traps of generators. Their normalisations make small differences large: a variance is a mean of
squares: FP16 has none above 65504 (x of 256) or below 6e-8 (x of 2.4e-4). And a normalisation takes the mean
off: where it is a hundred deviations, a hundred times the rounding of what it reads is in the result.
Dropout compares noise with its probability: rounded noise falls on the other side of it, and a whole feature
comes or goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import NodeProto, numpy_helper

from pixelrt.manifest import PrecisionType
from pixelrt_export.precision.network import CHEAP, Network
from pixelrt_export.precision.ranges import Ranges

AMPLIFICATION_LIMIT: dict[PrecisionType, float] = {"fp16": 16.0, "bf16": 4.0}
"""How many times a layer may enlarge the rounding of what it reads: to about half a percent, and one."""

_MEANS = frozenset({"ReduceMean", "ReduceSum", "GlobalAveragePool", "AveragePool"})
_MOVING = frozenset({"Resize", "MaxPool", "DepthToSpace", "Expand", "Tile", "Gather", "PRelu", "Elu"})
"""Hand values on, more or less: a look behind them finds where those come from."""
_COMPARING = frozenset(
    {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Floor", "Ceil", "Round", "Sign"}
)
_SQUARING = frozenset({"Pow", "Mul", "Abs"})


def for_others(network: Network, ranges: Ranges, requested: PrecisionType) -> dict[int, str]:
    """Layers by the index of their node, and why they stay FP32."""
    graph = _Graph(network)
    cancelling = _cancelling(graph, ranges, AMPLIFICATION_LIMIT[requested])
    return {**cancelling, **_variances(graph), **_thresholds(graph)}


class _Graph:
    """Who writes what."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes = network.model.graph.node
        self.writers = {name: index for index, node in enumerate(self.nodes) for name in node.output}

    def behind(self, tensors: Iterable[str], through: frozenset[str]) -> Iterator[int]:
        """Nodes from which tensors come, back to the first that is not to be looked through, included."""
        waiting, seen = list(tensors), set[int]()
        while waiting:
            index = self.writers.get(waiting.pop(), -1)
            if index >= 0 and index not in seen and self.network.is_layer(index):
                seen.add(index)
                yield index
                if self.nodes[index].op_type in through:
                    waiting.extend(filter(self.network.is_float, self.nodes[index].input))


# --- variances ---------------------------------------------------------------------------------------


def _variances(graph: _Graph) -> dict[int, str]:
    """Means of squares under a root, as normalisations without an operator of their own have them."""
    found: dict[int, str] = {}
    for index, node in enumerate(graph.nodes):
        if not _is_root(graph.network, node):
            continue
        path = list(graph.behind([node.input[0]], CHEAP | {"Expand"}))
        means = [each for each in path if graph.nodes[each].op_type in _MEANS]
        if means:
            squares = (graph.writers.get(graph.nodes[each].input[0], -1) for each in means)
            before = [each for each in squares if each >= 0 and graph.nodes[each].op_type in _SQUARING]
            why = (
                f"a variance or mean of squares, whose root {graph.network.names[index]!r} takes, needs FP32"
            )
            found.update(dict.fromkeys((*path, *before, index), why))
    return found


def _is_root(network: Network, node: NodeProto) -> bool:
    if node.op_type == "Sqrt":
        return True
    exponent = network.constants.get(node.input[1]) if node.op_type == "Pow" else None
    return exponent is not None and bool(np.all(np.abs(numpy_helper.to_array(exponent)) == 0.5))


# --- thresholds --------------------------------------------------------------------------------------


def _thresholds(graph: _Graph) -> dict[int, str]:
    """Comparisons of what comes straight from an input, such as the noise of a dropout."""
    found: dict[int, str] = {}
    for index, node in enumerate(graph.nodes):
        if node.op_type not in _COMPARING:
            continue
        path = [*graph.behind(node.input, CHEAP), index]
        if all(graph.nodes[each].op_type in CHEAP for each in path[:-1]):
            why = (
                f"{graph.network.names[index]!r} compares an input: rounded, it would fall on the other side"
            )
            found.update(dict.fromkeys(path, why))
    return found


# --- what cancels ------------------------------------------------------------------------------------


def _cancelling(graph: _Graph, ranges: Ranges, limit: float) -> dict[int, str]:
    """Layers whose rounding a layer after them would enlarge."""
    found: dict[int, str] = {}
    for index, node in enumerate(graph.nodes):
        name = graph.network.names[index]
        amplification = ranges.offsets.get(name, 0.0)
        if node.op_type in ("Add", "Sub"):
            amplification = _cancellation(node, ranges)
        if amplification > limit:
            why = f"{name!r} would enlarge its rounding {amplification:.0f} times"
            behind = graph.behind(node.input, CHEAP | _MOVING)
            found.update(dict.fromkeys((*behind, index), why))
    return found


def _cancellation(node: NodeProto, ranges: Ranges) -> float:
    """How much larger than a sum or difference its largest operand is."""
    result = ranges.tensors.get(node.output[0], 0.0)
    largest = max(ranges.tensors.get(name, 0.0) for name in node.input)
    return largest / result if result else 0.0
