"""Programs saved with `torch.export.save`, read without running code that a file brings along."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from pixelrt.errors import CheckpointError, ExportError
from pixelrt_export.checkpoint import refuse_what_is_no_model
from pixelrt_export.inputs import (
    Call,
    NetworkSpec,
    Parameter,
    Parameters,
    batch_option,
    check_size,
    check_type,
)
from pixelrt_export.quiet import essential, quiet

_OPERATOR = re.compile(
    r"(torch\.ops\.(aten|prim|prims|higher_order|profiler|quantized_decomposed)(\.\w+){1,2}"
    r"|_operator\.\w+|math\.\w+|torch\._?sym_\w+|torch\._check\w*)"
)
_EXPRESSION_WORDS = frozenset(
    {
        *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs", "floor"),
        *("ceiling", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "Not"),
        *("LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or", "FloorDiv", "CeilDiv", "CleanDiv"),
        *(
            "PythonMod",
            "ModularIndexing",
            "IntTrueDiv",
            "FloatTrueDiv",
            "ToFloat",
            "TruncToInt",
            "RoundToInt",
        ),
        *("CeilToInt", "FloorToInt", "Where", "Piecewise", "PowByNatural", "Identity", "true", "false"),
        *("positive", "nonnegative", "negative", "integer", "real", "True", "False", "None", "int_oo", "oo"),
    }
)
"""Words of shape expressions. Anything else is refused: SymPy evaluates the text as Python."""
_WORD = re.compile(r"[A-Za-z_]\w*")
_SYMBOL = re.compile(r"(s|u|zuf|zf|i)\d+|_?[a-z]\w*_?dim\w*|batch\w*|height\w*|width\w*")
_AUTO = "{0: torch.export.Dim.AUTO}"
"""How a batch of any size is spelled."""
_TRAINING_ARGUMENT = {
    "batch_norm": 5,
    "dropout": 2,
    "feature_dropout": 2,
    "alpha_dropout": 2,
    "native_dropout": 2,
}
"""Position of `training` in operators that do something else in training."""


def load_exported(path: Path) -> Program:
    """Load an exported program, on the CPU, and turn it into a module that takes tensors.

    `torch.export.load` unpickles whatever it finds, loads compiled libraries, and lets SymPy evaluate text.
    Therefore it is given an archive that is made anew here from what was checked.

    Raises:
        CheckpointError: If the file is missing, no `.pt2`, cut short, holds compiled code or pickled objects
            other than tensors.
        ExportError: If the program takes something else than tensors, or was saved with batch norm in
            training mode.
    """
    refuse_what_is_no_model(path)
    archive = _rebuilt(path.read_bytes(), path)
    try:
        with quiet():
            program = torch.export.load(io.BytesIO(archive))
    except Exception as problem:
        raise CheckpointError(
            f"{path} cannot be loaded by PyTorch {torch.__version__} ({essential(problem)}); save it again "
            "with this version: torch.export.save(torch.export.export(model.eval(), (image,)), path)"
        ) from problem
    _check_program(program, path.name)
    return Program(program, path.name)


class Program(nn.Module):
    """An exported program as a function of its tensors, positional or by the keywords it was saved with.

    Args:
        program: A program whose inputs are tensors.
        name: Of its file, for messages.
    """

    def __init__(self, program: ExportedProgram, name: str) -> None:
        super().__init__()
        self.program = program.module()
        self.taken = tuple(node.meta["val"] for node in _inputs(program))
        positional, keywords = program.example_inputs or ((), {})
        names = [node.name for node in _inputs(program)][: len(positional)] + list(keywords)
        self.parameters_of_forward = Parameters(
            tuple(
                Parameter(name, kind="either" if index < len(positional) else "keyword")
                for index, name in enumerate(names)
            ),
            f"{name}({', '.join(names)})",
        )
        self.keywords = tuple(keywords)
        self.least_batch, self.max_batch = _batches(program, self.taken)
        self.in_training = _in_training(program)
        """Dropout that draws."""
        self.training = False

    def check(self, spec: NetworkSpec, call: Call, name: str) -> None:
        """Compare what is wanted with the shapes that the program was exported for.

        Raises:
            ExportError: If a type, or a size but that of the batch, is fixed to something else, the batch has
                other bounds than what is wanted, or a segmentation network drops.
        """
        if self.in_training and spec.task == "segmentation":
            raise ExportError(_training_mode(name, self.in_training[0]))
        names = [one.name for one in self.parameters_of_forward.listed]
        fed = dict(zip(names, call.positional, strict=False)) | call.keywords
        wanted = {one.name: one for one in spec.inputs}
        for parameter, value in zip(names, self.taken, strict=True):
            one = wanted[fed[parameter]]
            shape = tuple(size if isinstance(size, int) else None for size in value.shape)
            check_type(one, str(value.dtype).removeprefix("torch."), name)
            check_size(one, shape[1:], name)
        self._check_batch(spec, name)

    def _check_batch(self, spec: NetworkSpec, name: str) -> None:
        again = (
            f"save it again with dynamic_shapes={{{self.parameters_of_forward.listed[0].name!r}: {_AUTO}}}"
        )
        if self.max_batch is not None and spec.max_batch > self.max_batch:
            raise ExportError(
                f"{name} was saved with a batch of at most {self.max_batch}, and batch is {spec.max_batch}; "
                f"set {batch_option(spec.task, self.max_batch)}, or less, or {again}"
            )
        if self.least_batch > 2:  # 2 is what PyTorch writes where it assumes nothing
            raise ExportError(
                f"{name} was saved with a batch of at least {self.least_batch}, and it must take 1; {again}"
            )

    def forward(self, *values: Tensor, **named: Tensor) -> Any:
        """Return what the program returns."""
        given = (*values, *named.values())
        keywords = dict(zip(self.keywords, given[len(given) - len(self.keywords) :], strict=True))
        return self.program(*given[: len(given) - len(self.keywords)], **keywords)


def _inputs(program: ExportedProgram) -> list[torch.fx.Node]:
    names = set(program.graph_signature.user_inputs)
    return [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def _batches(program: ExportedProgram, taken: Sequence[Tensor]) -> tuple[int, int | None]:
    """The least and the largest batch that a program was saved for; None for no limit."""
    least, most = 1, None
    for value in taken:
        size = value.shape[0] if value.ndim else 1
        bounds = program.range_constraints.get(size.node.expr) if isinstance(size, torch.SymInt) else None
        if bounds is None:
            continue
        least = max(least, int(bounds.lower))
        if bounds.upper.is_Integer:
            most = min(int(bounds.upper), most or int(bounds.upper))
    return least, most


def _check_program(program: ExportedProgram, name: str) -> None:
    inputs = _inputs(program)
    tensors = [node.meta["val"] for node in inputs if isinstance(node.meta.get("val"), Tensor)]
    positional, keywords = program.example_inputs or ((), {})
    if not tensors or not len(inputs) == len(tensors) == len(positional) + len(keywords):
        shapes = ", ".join(f"{tensor.dtype}{list(tensor.shape)}" for tensor in tensors)
        raise ExportError(
            f"{name} takes {len(inputs)} inputs ({shapes}); tensors alone, outside lists and dicts, were "
            "expected"
        )
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ExportError(
                f"{name} takes {tensor.dtype}, float32 was expected; export it before .half() or .bfloat16()"
            )
    for operator in _in_training(program):
        if "dropout" not in operator:
            raise ExportError(_training_mode(name, operator))


def _in_training(program: ExportedProgram) -> list[str]:
    """The operators that do something else in training, and are in training: `aten.dropout.default`."""
    found = []
    for node in program.graph.nodes:
        target = str(node.target)
        position = _TRAINING_ARGUMENT.get(target.split(".")[1] if "aten." in target else "")
        if position is not None and len(node.args) > position and node.args[position] is True:
            found.append(target)
    return found


def _training_mode(name: str, operator: str) -> str:
    return f"{name} was exported in training mode ({operator}); call model.eval() and export it again"


# --- what is in the file -------------------------------------------------------------------------


def _rebuilt(content: bytes, path: Path) -> bytes:
    """The archive again, on the CPU, from checked parts: tensors, and programs of known operators."""
    members = _members(content, path)
    try:
        pickled = {name for name in members if name.endswith(".pt")} | set(_payloads(members, path))
        for name, data in members.items():
            if name in pickled:
                members[name] = _repickled(data, name, path)
            elif name.endswith(".json") or "/models/" in name:
                members[name] = _checked_json(data, name, path)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise CheckpointError(f"{path} is damaged ({essential(problem)}); copy or save it again") from problem
    rebuilt = io.BytesIO()
    with zipfile.ZipFile(rebuilt, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return rebuilt.getvalue()


def _members(content: bytes, path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile as problem:
        raise CheckpointError(
            f"{path} is no readable .pt2 archive ({problem}); it was cut short or is something else: copy it "
            "again, or save it with torch.export.save"
        ) from problem
    if not any("/models/" in name for name in members):
        # PyTorch up to 2.7 wrote `serialized_*`, all newer ones a format
        if any(re.search(r"(^|/)(serialized_\w+\.\w+|archive_format)$", name) for name in members):
            raise CheckpointError(
                f"{path} was saved by another PyTorch version, whose archives {torch.__version__} does not "
                "read; save it again with this one: "
                "torch.export.save(torch.export.export(model.eval(), (image,)), path)"
            )
        raise CheckpointError(
            f"{path} holds no program of torch.export; for weights use entry and checkpoint in [model], "
            "for TorchScript use torchscript"
        )
    compiled = [name for name in members if "/aotinductor/" in name]
    if compiled:
        raise CheckpointError(
            f"{path} holds compiled code ({compiled[0]}), a program of torch.export.save was expected"
        )
    return members


def _payloads(members: dict[str, bytes], path: Path) -> Iterator[str]:
    """Names of weights and constants that were pickled."""
    for name in [name for name in members if name.endswith("_config.json")]:
        for payload in json.loads(members[name])["config"].values():
            file = str(payload["path_name"])
            if file.startswith(("custom_obj", "opaque_obj")):
                raise CheckpointError(
                    f"{path} holds a pickled object ({file}), and loading it would run code; only tensors "
                    "are read"
                )
            if payload["use_pickle"]:
                yield f"{name.rpartition('/')[0]}/{file}"


def _repickled(content: bytes, member: str, path: Path) -> bytes:
    """Pickled tensors, loaded on the CPU without running code, and pickled again."""
    if not content:
        return content
    try:
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as problem:
        raise CheckpointError(
            f"{path} holds more than tensors ({member}: {essential(problem)}), and loading it would run "
            "code; save the program again with example inputs that are tensors"
        ) from problem
    again = io.BytesIO()
    torch.save(tensors, again)
    return again.getvalue()


def _checked_json(content: bytes, member: str, path: Path) -> bytes:
    data = json.loads(content)
    if "/models/" in member:
        _check_model(data, path)
    _to_cpu(data)
    return json.dumps(data).encode()


def _to_cpu(data: Any) -> None:
    """Name the CPU wherever a device is named."""
    if isinstance(data, dict):
        if set(data) == {"type", "index"}:
            data.update(type="cpu", index=None)
        data = list(data.values())
    if isinstance(data, list):
        for value in data:
            _to_cpu(value)


def _check_model(model: Any, path: Path) -> None:
    for key, text in _strings(model):
        words = set(_WORD.findall(text)) if key == "expr_str" else set()
        strange = sorted(word for word in words - _EXPRESSION_WORDS if not _SYMBOL.fullmatch(word))
        if strange or (key == "expr_str" and "." in re.sub(r"\d\.\d", "", text)):
            raise CheckpointError(
                f"{path} has the shape expression {text!r}, and SymPy would run it as code; numbers and "
                "symbols were expected"
            )
        if (
            key == "target"
            and text.startswith(("torch", "_operator", "math"))
            and not _OPERATOR.fullmatch(text)
        ):
            raise CheckpointError(f"{path} calls {text!r}, which is no tensor operator; it is not loaded")


def _strings(data: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(data, str):
        yield key, data
    elif isinstance(data, dict):
        for name, value in data.items():
            yield from _strings(value, name)
    elif isinstance(data, list):
        for value in data:
            yield from _strings(value, key)
