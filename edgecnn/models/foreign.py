"""Networks that edgecnn did not train, in the forms people have them."""

import io
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgecnn.errors import CheckpointError
from edgecnn.models import architecture as architectures
from edgecnn.models import checkpoint, pt2, state_dict
from edgecnn.models.frozen_mode import in_training_mode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

_FILE_ACCESS = re.compile(rb"\b(?:torch|aten)\s*\.\s*(?:save|from_file)\b")
Kind = Literal["checkpoint", "state_dict", "pt2", "torchscript", "pickle", "random"]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network ready to export.

    Attributes:
        module: in evaluation mode, on the CPU, in float32.
        kind: the form it came in.
        name: what to call it, and its bundle.
        info: what a checkpoint of this project says of itself; None for every other form.
        notes: what was unwrapped or assumed, a line each.
    """

    module: "nn.Module"
    kind: Kind
    name: str
    info: "checkpoint.CheckpointInfo | None"
    notes: tuple[str, ...]


def load_network(path: Path, *, architecture: str | None = None, allow_pickle: bool = False) -> Network:
    """Load a network from a file of any known form.

    Args:
        path: a checkpoint of this project, a plain state_dict (which needs ``architecture``), a ``torch.export``
            archive, a TorchScript archive, or a whole pickled module (which needs ``allow_pickle``).
        architecture: see :func:`edgecnn.models.architecture.build`.
        allow_pickle: whether a file may run code when it is read.

    Raises:
        CheckpointError: it is none of these, cannot be read, or does not fit.
        UsageError: there is no such architecture.
    """
    network = _load(path, architecture, allow_pickle)
    _require_float32(path, _tensors(network.module))
    if operators := in_training_mode(network.module):
        raise CheckpointError(
            f"{path}: was recorded in training mode, which is fixed in it: {', '.join(operators)}.",
            next_step="call network.eval() before torch.export.export or torch.jit.trace, then save it again",
        )
    return network


def _load(path: Path, architecture: str | None, allow_pickle: bool) -> Network:
    if allow_pickle and (data := checkpoint.read_bare_pickle(path)) is not None:
        return _pickled(path, data)
    data = checkpoint.read_archive(path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
    if pt2.is_pt2(names):
        module = pt2.load(path, data, allow_pickle=allow_pickle)
        return Network(module=module, kind="pt2", name=path.stem, info=None, notes=("a torch.export archive",))
    if checkpoint.is_torchscript(names):
        if not allow_pickle:
            _refuse_file_access(path, data)
        return _torchscript(path, data)
    if architecture is not None:
        return _with_architecture(path, data, architecture)
    if allow_pickle:
        content = _unpickle(path, data)
        if not isinstance(content, dict):
            return _whole_module(path, content)
    info, module = checkpoint.load(path)
    return Network(module=module, kind="checkpoint", name=info.model, info=info, notes=())


def _require_float32(where: Path | str, tensors: "Iterable[tuple[str, Any]]") -> None:
    """Refuse weights of another precision: what is exported is compared in float32."""
    import torch

    for name, tensor in tensors:
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise CheckpointError(
                f"{where}: is in {tensor.dtype} ({name}); expected a network in float32.",
                next_step="save it again after network.float()",
            )


def _tensors(module: "nn.Module") -> "Iterator[tuple[str, Any]]":
    yield from module.named_parameters()
    yield from module.named_buffers()


def random_network(architecture: str, num_classes: int | None = None) -> Network:
    """Return a network of the architecture with random weights: for its cost, not for its answers."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = architectures.build(architecture, num_classes).eval()
    _require_float32(architecture, _tensors(module))
    notes = (f"{architecture} has random weights (seed 0): its answers mean nothing, its cost is real",)
    return Network(module=module, kind="random", name=_file_name(architecture), info=None, notes=notes)


def _with_architecture(path: Path, data: bytes, architecture: str) -> Network:
    content = checkpoint.unpickle_plain(path, data)
    module = architectures.build(architecture)
    expected = set(module.state_dict())
    state, notes = state_dict.unwrap(content, str(path), expected)
    _require_float32(path, state.items())
    found = state_dict.count_classes(module, state)
    last = next(reversed(module.state_dict()), None)
    if last is not None and found is not None and found != module.state_dict()[last].shape[0]:
        module = architectures.build(architecture, found)
        notes.append(f"the weights are for {found} classes")
    state_dict.fill(module, state, str(path), architecture)
    return Network(
        module=module.eval(), kind="state_dict", name=_file_name(architecture), info=None, notes=tuple(notes)
    )


def _refuse_file_access(path: Path, data: bytes) -> None:
    """Refuse TorchScript that writes or maps files; it may do so as soon as it is read, in ``__setstate__``."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".py") and (found := _FILE_ACCESS.search(archive.read(entry))):
                raise CheckpointError(
                    f"{path}: calls {found.group().decode()!r}, which reads or writes files; it was not opened.",
                    next_step="save a network without it, or --allow-pickle if you trust where it comes from",
                )


def _torchscript(path: Path, data: bytes) -> Network:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # deprecated, but people have such files
            module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: torch.jit cannot read it ({first_line}).", next_step="save it again with torch.jit.save"
        ) from error
    return Network(module=module, kind="torchscript", name=path.stem, info=None, notes=("a TorchScript archive",))


def _pickled(path: Path, data: bytes) -> Network:
    return _whole_module(path, _unpickle(path, data))


def _unpickle(path: Path, data: bytes) -> Any:
    """Unpickle with everything that may run; the user asked for it by name."""
    import torch

    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except Exception as error:  # a pickle may raise anything; it is named, not swallowed
        raise CheckpointError(
            f"{path}: cannot be unpickled ({type(error).__name__}: {error}).",
            next_step="run in the folder whose modules the network was built from, or save its state_dict",
        ) from error


def _whole_module(path: Path, content: object) -> Network:
    from torch import nn

    if not isinstance(content, nn.Module):
        raise CheckpointError(
            f"{path}: expected a pickled torch.nn.Module, found {type(content).__name__}.",
            next_step="name the architecture of a state_dict with --arch",
        )
    notes = ["a whole pickled module: reading it ran whatever code it holds"]
    if content.training:
        notes.append("it was saved in training mode; exported in evaluation mode")
    return Network(module=content.eval(), kind="pickle", name=path.stem, info=None, notes=tuple(notes))


def _file_name(architecture: str) -> str:
    """Return an architecture's name as a folder: ``torchvision:resnet18`` is ``resnet18``."""
    return architecture.rpartition(":")[2]
