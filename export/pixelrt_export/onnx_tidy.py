"""Makes a network's ONNX small: constants and batch norm folded, dead nodes gone."""

from __future__ import annotations

import onnxslim
from onnx import ModelProto
from onnxscript import ir, optimizer, rewriter
from onnxscript.rewriter.rules import common

from pixelrt.errors import ExportError
from pixelrt_export.graph import copy_of
from pixelrt_export.quiet import essential, quiet

BATCH = "batch"
_RULES = (
    common.cast_cast_rule,
    common.collapse_slice_rule,
    common.fuse_batchnorm_into_conv_rule,
    common.fuse_batchnorm_into_conv_transpose_rule,
    common.fuse_batchnorm_into_gemm_rule,
    common.fuse_pad_into_conv_rule,
    common.no_op_cast_rule,
    common.no_op_expand_rule,
    common.no_op_transpose_rule,
    common.normalize_pad_format_conv_rule,
    common.reshape_reshape_rule,
    common.transpose_transpose_rule,
)
"""Without `x + 0 -> x`, which takes everything up to 1e-8 for 0: the epsilon under many a square root."""


def optimize(model: ir.Model) -> None:
    """Inline functions and fold constants and batch norm of what torch.onnx wrote, in place.

    In the place of torch.onnx's own optimizer, which drops an addition of 1e-8.
    """
    optimizer.inline(model)
    optimizer.fold_constants(model)
    rewriter.rewrite(model, _RULES)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)


def tidy(model: ModelProto) -> tuple[ModelProto, bool]:
    """Fold constants and batch norm, and drop what no output needs."""
    try:
        with quiet():
            slim = onnxslim.slim(copy_of(model))
    except Exception as problem:
        raise ExportError(
            f"onnxslim cannot simplify the network ({essential(problem)}); please report this, with the "
            "network"
        ) from problem
    return slim, len(slim.graph.node) != len(model.graph.node)


def named_batch(model: ModelProto) -> tuple[ModelProto, bool]:
    """Call the first axis of the inputs and outputs `batch` where it is not a number."""
    named = copy_of(model)
    for value in (*named.graph.input, *named.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.HasField("dim_value"):
            first.dim_param = BATCH
    del named.graph.value_info[:]
    return named, True
