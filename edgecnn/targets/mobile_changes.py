"""What to write in place of an operator that a mobile provider does not take."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Change:
    """Other operators for the same function.

    Attributes:
        needs: the operators, of the domain ai.onnx.
        words: how to write it.
    """

    needs: tuple[str, ...]
    words: str


_CLIPPED = Change(
    needs=("Add", "Clip", "Mul"), words="Clip(x + 3, 0, 6) / 6; in PyTorch: torch.nn.functional.relu6(x + 3) / 6"
)
#: By operator, the nearest first: the first that a provider takes is proposed to who ships there.
CHANGES: dict[str, tuple[Change, ...]] = {
    "HardSigmoid": (_CLIPPED,),
    "HardSwish": (
        Change(needs=("HardSigmoid", "Mul"), words="x * HardSigmoid(x); in PyTorch: x * nn.Hardsigmoid()(x)"),
        Change(needs=("Add", "Clip", "Mul"), words=f"x * {_CLIPPED.words.replace('PyTorch: ', 'PyTorch: x * ')}"),
    ),
    "ReduceMean": (
        Change(
            needs=("GlobalAveragePool", "Reshape"),
            words="GlobalAveragePool and Reshape, where it is the mean over height and width",
        ),
    ),
    "ReduceMax": (
        Change(
            needs=("GlobalMaxPool", "Reshape"),
            words="GlobalMaxPool and Reshape, where it is the maximum over height and width",
        ),
    ),
    "Flatten": (Change(needs=("Reshape",), words="Reshape to two dimensions, as edgecnn export does"),),
    "Unsqueeze": (Change(needs=("Reshape",), words="Reshape to the shape with the new axis"),),
    "Squeeze": (Change(needs=("Reshape",), words="Reshape to the shape without the axis"),),
    "Identity": (Change(needs=(), words="nothing: edgecnn simplify takes it away"),),
    "Dropout": (Change(needs=(), words="nothing: edgecnn simplify takes it away"),),
    "ConvTranspose": (Change(needs=("Resize", "Conv"), words="Resize, then Conv"),),
    "Elu": (Change(needs=("LeakyRelu",), words="LeakyRelu, and train again: another function"),),
    "Gelu": (Change(needs=("Relu",), words="Relu, and train again: another function"),),
}
_FLOAT = "ship the float model: integers are not computed there, and every layer would be dequantized on the CPU"
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "QGemm", "ConvInteger", "MatMulInteger")


def propose(op: str, known: Collection[str], *, elsewhere: str | None) -> str:
    """Return what to change about an operator that is not taken.

    Args:
        op: ``domain:type``.
        known: operators that the provider takes.
        elsewhere: another form of the same provider that takes it, or None.
    """
    kind = op.split(":")[1]
    if kind.startswith(_QUANTIZED):
        return _FLOAT
    fitting = (c for c in CHANGES.get(kind, ()) if all(f"ai.onnx:{need}" in known for need in c.needs))
    found = [f"write {change.words}" for change in fitting][:1]
    if elsewhere is not None:
        found.insert(0, f"choose the model format {elsewhere}, which takes it")
    return "; or ".join(found) or "no other way to write it is known here: it stays on the CPU"
