"""Transpositions and reshapes that undo each other."""

from edgecnn.rewriting.attributes import attribute
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.site import Site

NAME = "layouts"


def cancel_layouts(editor: Editor) -> list[Site]:
    """Cancel ``Transpose -> Transpose`` that give the image back, and merge ``Reshape -> Reshape``."""
    sites = []
    changed = True
    while changed:
        changed = False
        for node in editor.nodes:
            before = editor.maker(node.input[0]) if node.input else None
            if before is None or before.op_type != node.op_type:
                continue
            if node.op_type == "Transpose" and _undo(attribute(before, "perm", []), attribute(node, "perm", [])):
                if editor.is_output(node.output[0]) or not editor.readers(node.output[0]):
                    continue
                editor.redirect(node.output[0], before.input[0])
                editor.remove(node)
            elif node.op_type == "Reshape" and _keeps_nothing(editor, node.input[1]):
                node.input[0] = before.input[0]
                editor.refresh()
            else:
                continue
            sites.append(Site(rewrite=NAME, node=node.name, applied=True, reason=f"two {node.op_type} in a row"))
            changed = True
            break
    return sites


def _undo(first: list[int], second: list[int]) -> bool:
    return len(first) == len(second) > 0 and [first[axis] for axis in second] == list(range(len(first)))


def _keeps_nothing(editor: Editor, shape: str) -> bool:
    """Tell whether a shape says every size itself: a 0 takes that of the input, which merging would change."""
    values = editor.constant(shape)
    return values is not None and 0 not in values
