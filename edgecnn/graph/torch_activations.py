"""Every tensor that a PyTorch network computes, whatever kind of module it is.

Operators are watched where PyTorch dispatches them, below Python and TorchScript alike.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgecnn.graph.activations import INPUT, Activation


def torch_activations(module: nn.Module, batch: Tensor) -> Sequence[Activation]:
    """Run a module and return every floating-point tensor it computes from its input, in order.

    Args:
        module: in evaluation mode.
        batch: its only input.
    """
    recorder = _Recorder(batch)
    paths = {id(inner): path for path, inner in module.named_modules()}
    with torch.no_grad(), _following(recorder, paths), recorder:
        module(batch)
    return recorder.found


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Copies what every operator returns; the tensors are kept, so that an identity is never given out twice."""

    def __init__(self, batch: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path: list[str] = []
        self._names: dict[int, str] = {id(batch): INPUT}
        self._kept: list[Tensor] = [batch]
        values = batch.detach().to(torch.float32).numpy().copy()
        self.found = [Activation(name=INPUT, op=INPUT, layer=INPUT, inputs=(), values=values)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        inputs = tuple(dict.fromkeys(self._names[id(tensor)] for tensor in read if id(tensor) in self._names))
        if inputs:
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor) and leaf.is_floating_point():
                    self._keep(leaf, str(func), inputs)
        return result

    def _keep(self, tensor: Tensor, op: str, inputs: tuple[str, ...]) -> None:
        name = f"{len(self.found)}"
        self._names[id(tensor)] = name
        self._kept.append(tensor)
        values = tensor.detach().to(torch.float32).numpy().copy()
        layer = self.path[-1] if self.path else ""
        self.found.append(Activation(name=name, op=op, layer=layer, inputs=inputs, values=values))


@contextlib.contextmanager
def _following(recorder: _Recorder, paths: dict[int, str]) -> Iterator[None]:
    """Tell the recorder which module is at work."""

    def enter(module: nn.Module, args: Any) -> None:
        recorder.path.append(paths.get(id(module), type(module).__name__))

    def leave(module: nn.Module, args: Any, result: Any) -> None:
        recorder.path.pop()

    before = register_module_forward_pre_hook(enter)
    after = register_module_forward_hook(leave)
    try:
        yield
    finally:
        before.remove()
        after.remove()
