"""The same function by another graph: passes that make a model faster without changing what it answers.

Each pass is a file with its pattern drawn at the top; this table names them. None is told of any network: a pass
applies where its conditions hold, says where it did and where not and why, and whether it pays is measured
(:mod:`edgecnn.tuning`), never assumed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgecnn.errors import UsageError
from edgecnn.graph import onnx_file
from edgecnn.rewriting.blocked_conv import block_convolutions
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.flatten_order import reorder_flattened
from edgecnn.rewriting.integer_chain import chain_integers
from edgecnn.rewriting.integer_input import take_bytes
from edgecnn.rewriting.layouts import cancel_layouts
from edgecnn.rewriting.site import Site

Form = Literal["float", "int8"]


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A row of the table.

    Attributes:
        apply: changes a graph in place and says what it did where.
        forms: the kinds of model it is for.
        summary: what it does, in a line.
    """

    apply: Callable[[Editor], list[Site]]
    forms: tuple[Form, ...]
    summary: str


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """A rewritten model.

    Attributes:
        data: the ONNX file; the one given, if nothing applied.
        sites: what each pass did where, in the order of the passes.
    """

    data: bytes
    sites: tuple[Site, ...]


#: In the order in which they are best applied: a later one finds what an earlier one left.
REWRITES: Mapping[str, Rewrite] = {
    "integer-input": Rewrite(
        apply=take_bytes, forms=("int8",), summary="bytes go into the first integer layer without becoming float"
    ),
    "integer-chain": Rewrite(
        apply=chain_integers, forms=("int8",), summary="pools, reshapes and concatenations work on integers"
    ),
    "blocked-conv": Rewrite(
        apply=block_convolutions,
        forms=("int8",),
        summary="a convolution of few channels takes several columns as channels, and the pool behind it",
    ),
    "flatten-order": Rewrite(
        apply=reorder_flattened,
        forms=("int8", "float"),
        summary="a fully connected layer reads an image in the order it lies in memory",
    ),
}


def rewrite(data: bytes, names: Sequence[str], *, name: str) -> Rewritten:
    """Apply passes to a model, one after the other, and cancel the transpositions that they leave.

    Args:
        data: the ONNX file.
        names: passes, as :func:`plans` gives them or in any order.
        name: what to call the model in a message.

    Raises:
        UsageError: there is no such pass.
        ModelError: the model cannot be read.
    """
    strangers = [one for one in names if one not in REWRITES]
    if strangers:
        raise UsageError(
            f"unknown rewrite {strangers[0]!r}; known: {', '.join(REWRITES)}.", next_step="edgecnn tune --help"
        )
    model = onnx_file.parse(data, name)
    sites: list[Site] = []
    for one in names:
        editor = Editor(model)
        found = REWRITES[one].apply(editor)
        sites.extend(found)
        if any(site.applied for site in found):
            cancel_layouts(editor)
            model = editor.finish()
    changed = any(site.applied for site in sites)
    return Rewritten(data=onnx_file.serialize(model) if changed else data, sites=tuple(sites))


def plans(data: bytes, *, form: Form, name: str = "the model") -> tuple[tuple[str, ...], ...]:
    """Return combinations of passes worth measuring on a model: none, all that apply, and all but one each.

    Args:
        data: the ONNX file.
        form: whether it is quantized.
        name: what to call it in a message.
    """
    for_form = tuple(one for one, row in REWRITES.items() if form in row.forms)
    applied = {site.rewrite for site in rewrite(data, for_form, name=name).sites if site.applied}
    everything = tuple(one for one in for_form if one in applied)
    fewer = tuple(tuple(one for one in everything if one != left) for left in everything)
    return tuple(dict.fromkeys(((), everything, *fewer)))
