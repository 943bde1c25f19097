"""The same function by another graph: passes that make a model faster without changing what it answers.

Each pass is a file with its pattern drawn at the top; this table names them. None is told of any network: a pass
applies where its conditions hold, says where it did and where not and why, and whether it pays is measured
(:mod:`edgecnn.tuning`), never assumed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from edgecnn.errors import UsageError
from edgecnn.graph import onnx_file
from edgecnn.rewriting.blocked_conv import block_convolutions
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.flatten_order import reorder_flattened
from edgecnn.rewriting.integer_chain import chain_integers
from edgecnn.rewriting.integer_input import take_bytes
from edgecnn.rewriting.layouts import cancel_layouts
from edgecnn.rewriting.mean_pool import pool_means
from edgecnn.rewriting.normalization import join_normalization
from edgecnn.rewriting.pool_phases import split_phases
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

Form = Literal["float", "int8"]
#: The first opset whose operators ONNX Runtime promises to run; those of older ones mean other things.
OLDEST_OPSET = 7


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A row of the table.

    Attributes:
        apply: changes a graph in place at some of its nodes and says what it did where.
        forms: the kinds of model it is for.
        summary: what it does, in a line.
        instead_of: another pass that does the same in another way.
    """

    apply: Callable[[Editor, "list[NodeProto]"], list[Site]]
    forms: tuple[Form, ...]
    summary: str
    instead_of: str = ""


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
    "one-normalization": Rewrite(
        apply=join_normalization, forms=("int8", "float"), summary="mean and deviation in one pass over the image"
    ),
    "mean-pool": Rewrite(
        apply=pool_means, forms=("int8", "float"), summary="a mean over the image is a pool, which has integer kernels"
    ),
    "integer-input": Rewrite(
        apply=take_bytes, forms=("int8",), summary="bytes go into the first integer layer without becoming float"
    ),
    "integer-chain": Rewrite(
        apply=chain_integers, forms=("int8",), summary="pools, reshapes and concatenations work on integers"
    ),
    "blocked-conv": Rewrite(
        apply=partial(block_convolutions, name="blocked-conv", pad=False),
        forms=("int8",),
        summary="a convolution of few channels takes several columns as channels, and the pool behind it",
    ),
    "padded-blocked-conv": Rewrite(
        apply=partial(block_convolutions, name="padded-blocked-conv", pad=True),
        forms=("int8",),
        summary="the same, with padding written out first where that makes the kernel narrower",
        instead_of="blocked-conv",
    ),
    "pool-phases": Rewrite(
        apply=split_phases,
        forms=("float",),
        summary="a convolution of few outputs computes what a max pool compares as channels",
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
        names: of passes, or ``pass@node`` for one at one node; as :func:`plans` gives them, or in any order.
        name: what to call the model in a message.

    Raises:
        UsageError: there is no such pass, or no such node.
        ModelError: the model cannot be read.
    """
    wanted = [_parse_name(one) for one in names]
    model = onnx_file.parse(data, name)
    editor = Editor(model)
    _require_nodes(editor, [node for _, node in wanted if node], name)
    if obstacle := _obstacle(editor):
        node_name, reason = obstacle
        refused = (Site(rewrite=one, node=node_name, applied=False, reason=reason) for one, _ in wanted)
        return Rewritten(data=data, sites=tuple(refused))
    sites: list[Site] = []
    for one, node_name in wanted:
        found = REWRITES[one].apply(editor, [node for node in editor.nodes if node_name in ("", node.name)])
        sites.extend(found)
        if any(site.applied for site in found):
            cancel_layouts(editor)
            model = editor.finish()
            editor = Editor(model)
    changed = any(site.applied for site in sites)
    return Rewritten(data=onnx_file.serialize(model) if changed else data, sites=tuple(sites))


def _require_nodes(editor: Editor, names: Sequence[str], model: str) -> None:
    known = {node.name for node in editor.nodes}
    for name in names:
        if name not in known:
            raise UsageError(f"{model}: has no node {name!r}.", next_step="name its nodes as edgecnn inspect does")


def _obstacle(editor: Editor) -> tuple[str, str] | None:
    """Return a node that keeps every pass from a graph, and why; None if there is none."""
    first = editor.nodes[0].name if editor.nodes else ""
    if editor.opset < OLDEST_OPSET:
        return first, f"its operators are of opset {editor.opset}, older than {OLDEST_OPSET}"
    for node in editor.nodes:
        if has_branches(node):
            return node.name, "the graph has branches or loops, into which no rewrite looks"
    return None


def has_branches(node: "NodeProto") -> bool:
    """Tell whether a node holds graphs of its own, which may read tensors of the graph around them."""
    return any(item.HasField("g") or len(item.graphs) > 0 for item in node.attribute)


def _parse_name(wanted: str) -> tuple[str, str]:
    """Return the name of a pass, and of the node it is for if it is for one."""
    name, at, node = wanted.partition("@")
    if name not in REWRITES:
        raise UsageError(f"unknown rewrite {name!r}; known: {', '.join(REWRITES)}.", next_step="edgecnn tune --help")
    if at and not node:
        raise UsageError(f"expected a node behind the @ of {wanted!r}, found none.", next_step=f"leave @ out: {name}")
    return name, node


def plans(data: bytes, *, form: Form, name: str = "the model") -> tuple[tuple[str, ...], ...]:
    """Return combinations of passes worth measuring on a model, each giving another graph.

    None of them; all that apply, first with passes that stand in for others (they were made for what those leave), then
    without; and all but one.

    Args:
        data: the ONNX file.
        form: whether it is quantized.
        name: what to call it in a message.
    """
    rows = {one: row for one, row in REWRITES.items() if form in row.forms}
    usual = tuple(one for one, row in rows.items() if not row.instead_of)
    everything = _applied(data, usual, name)
    stand_ins = [
        _applied(data, tuple(one if other == row.instead_of else other for other in usual), name)
        for one, row in rows.items()
        if row.instead_of
    ]
    fewer = [tuple(one for one in everything if one != left) for left in everything]
    graphs: dict[bytes, tuple[str, ...]] = {data: ()}
    for names in (everything, *stand_ins, *fewer):
        graphs.setdefault(rewrite(data, names, name=name).data, names)
    kept = list(graphs.values())
    return tuple(sorted(kept, key=lambda names: (names != (), names not in stand_ins, kept.index(names))))


def _applied(data: bytes, names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return those of some passes that change a model."""
    applied = {site.rewrite for site in rewrite(data, names, name=name).sites if site.applied}
    return tuple(one for one in names if one in applied)
