"""The same .ort file every time: ONNX Runtime writes one of its tables in the order of a randomly seeded hash map.

An ``.ort`` file is a FlatBuffer, written from its end to its beginning: first the model, then the table of kernel
types, then the root. Only the table differs from one conversion to the next, so all before the model is written anew,
with the table's entries sorted (``onnxruntime/core/flatbuffers/schema/ort.fbs``).
"""

import struct
from dataclasses import dataclass
from typing import Any

_IDENTIFIER = b"ORTM"
#: No scalar in the file is aligned to more; sizes are a multiple of it.
_ALIGNMENT = 16

Argument = tuple[int, int]


@dataclass(frozen=True, order=True)
class _TypeArguments:
    """A type that a kernel is chosen by, and the inputs and outputs that have it."""

    name: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, order=True)
class _Operator:
    """One entry of the table."""

    name: str
    types: tuple[_TypeArguments, ...]


def with_sorted_kernel_types(data: bytes) -> bytes:
    """Return an ``.ort`` file with its table of kernel types in order; the model in it is left byte for byte.

    Raises:
        ValueError: it is not an ``.ort`` file.
    """
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

    if data[4:8] != _IDENTIFIER:
        raise ValueError(f"expected an .ort file, found {data[4:8]!r}")
    root: Any = InferenceSession.GetRootAs(data, 0)
    model_at = root.Model()._tab.Pos
    (to_vtable,) = struct.unpack_from("<i", data, model_at)
    kept = data[min(model_at, model_at - to_vtable) :]
    operators = _read(root.KernelTypeStrResolver())
    version_at = root._tab.Indirect(root._tab.Pos + root._tab.Offset(4))
    return _write(kept, operators, model=len(data) - model_at, version=len(data) - version_at)


def _read(table: Any) -> list[_Operator]:
    entries = [table.OpKernelTypeStrArgs(index) for index in range(table.OpKernelTypeStrArgsLength())]
    return sorted(_Operator(entry.OpId().decode(), _read_types(entry)) for entry in entries)


def _read_types(entry: Any) -> tuple[_TypeArguments, ...]:
    types = [entry.KernelTypeStrArgs(index) for index in range(entry.KernelTypeStrArgsLength())]
    return tuple(sorted(_TypeArguments(each.KernelTypeStr().decode(), _read_arguments(each)) for each in types))


def _read_arguments(entry: Any) -> tuple[Argument, ...]:
    found = [entry.Args(index) for index in range(entry.ArgsLength())]
    return tuple((each.ArgType(), each.Index()) for each in found)


def _write(kept: bytes, operators: list[_Operator], *, model: int, version: int) -> bytes:
    """Write the table and the root in front of ``kept``; ``model`` and ``version`` are distances from the end."""
    import flatbuffers
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import InferenceSession as Root
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import KernelTypeStrResolver as Table

    builder: Any = flatbuffers.Builder(len(kept) + 1024)
    builder.Bytes[-len(kept) :] = kept
    builder.head -= len(kept)
    builder.minalign = _ALIGNMENT
    entries = _vector(builder, [_write_operator(builder, each) for each in operators])
    Table.Start(builder)
    Table.AddOpKernelTypeStrArgs(builder, entries)
    table = Table.End(builder)
    Root.Start(builder)
    Root.AddOrtVersion(builder, version)
    Root.AddModel(builder, model)
    Root.AddKernelTypeStrResolver(builder, table)
    builder.Finish(Root.End(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _write_operator(builder: Any, operator: _Operator) -> int:
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import OpIdKernelTypeStrArgsEntry as Entry

    types = _vector(builder, [_write_types(builder, each) for each in operator.types])
    name = builder.CreateString(operator.name)
    Entry.Start(builder)
    Entry.AddOpId(builder, name)
    Entry.AddKernelTypeStrArgs(builder, types)
    return int(Entry.End(builder))


def _write_types(builder: Any, types: _TypeArguments) -> int:
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import KernelTypeStrArgsEntry as Entry

    arguments = _vector(builder, [_write_argument(builder, *each) for each in types.arguments])
    name = builder.CreateString(types.name)
    Entry.Start(builder)
    Entry.AddKernelTypeStr(builder, name)
    Entry.AddArgs(builder, arguments)
    return int(Entry.End(builder))


def _write_argument(builder: Any, kind: int, index: int) -> int:
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import ArgTypeAndIndex as Entry

    Entry.Start(builder)
    Entry.AddArgType(builder, kind)
    Entry.AddIndex(builder, index)
    return int(Entry.End(builder))


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
