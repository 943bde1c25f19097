"""Transpositions and reshapes that undo each other."""

from collections import deque
from typing import TYPE_CHECKING

from edgecnn.rewriting.attributes import attribute, operator
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

NAME = "layouts"


def cancel_layouts(editor: Editor) -> list[Site]:
    """Cancel ``Transpose -> Transpose`` that give the image back, and merge ``Reshape -> Reshape``."""
    sites: list[Site] = []
    waiting = deque(editor.nodes)
    while waiting:
        node = waiting.popleft()
        before = editor.maker(node.input[0]) if node.input else None
        if before is None or not operator(node) or operator(before) != operator(node):
            continue
        again = _cancel(editor, before, node)
        if again:
            waiting.extend(again)
            sites.append(Site(rewrite=NAME, node=node.name, applied=True, reason=f"two {node.op_type} in a row"))
    return sites


def _cancel(editor: Editor, before: "NodeProto", node: "NodeProto") -> "list[NodeProto]":
    """Cancel or merge two nodes if that is possible; return those that now have another node before them."""
    result = node.output[0]
    if operator(node) == "Transpose" and _undo(attribute(before, "perm", []), attribute(node, "perm", [])):
        readers = editor.readers(result)
        if readers and not editor.is_output(result):
            editor.redirect(result, before.input[0])
            editor.remove(node)
            return readers
    elif operator(node) == "Reshape" and _keeps_nothing(editor, node.input[1]):
        with editor.changing(node):
            node.input[0] = before.input[0]
        return [node]
    return []


def _undo(first: list[int], second: list[int]) -> bool:
    return len(first) == len(second) > 0 and [first[axis] for axis in second] == list(range(len(first)))


def _keeps_nothing(editor: Editor, shape: str) -> bool:
    """Tell whether a shape says every size itself: a 0 takes that of the input, which merging would change."""
    values = editor.constant(shape)
    return values is not None and 0 not in values
