"""Networks that edgecnn did not train, in the forms people have them."""

import io
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgecnn.errors import CheckpointError
from edgecnn.models import architecture as architectures
from edgecnn.models import checkpoint, pt2, state_dict

if TYPE_CHECKING:
    from torch import nn

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
    if allow_pickle and path.is_file() and path.read_bytes()[:1] == b"\x80":
        return _pickled(path, path.read_bytes())
    data = checkpoint.read_archive(path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
    if pt2.is_pt2(names):
        module = pt2.load(path, data, allow_pickle=allow_pickle)
        return Network(module=module, kind="pt2", name=path.stem, info=None, notes=("a torch.export archive",))
    if any(name.endswith("/constants.pkl") for name in names):
        return _torchscript(path, data)
    if architecture is not None:
        return _with_architecture(path, data, architecture)
    if allow_pickle:
        content = _unpickle(path, data)
        if not isinstance(content, dict):
            return _whole_module(path, content)
    info, module = checkpoint.load(path)
    return Network(module=module, kind="checkpoint", name=info.model, info=info, notes=())


def random_network(architecture: str, num_classes: int | None = None) -> Network:
    """Return a network of the architecture with random weights: for its cost, not for its answers."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = architectures.build(architecture, num_classes).eval()
    notes = (f"{architecture} has random weights (seed 0): its answers mean nothing, its cost is real",)
    return Network(module=module, kind="random", name=_file_name(architecture), info=None, notes=notes)


def _with_architecture(path: Path, data: bytes, architecture: str) -> Network:
    content = checkpoint.unpickle_plain(path, data)
    module = architectures.build(architecture)
    expected = set(module.state_dict())
    state, notes = state_dict.unwrap(content, str(path), expected)
    found = state_dict.count_classes(module, state)
    last = next(reversed(module.state_dict()), None)
    if last is not None and found is not None and found != module.state_dict()[last].shape[0]:
        module = architectures.build(architecture, found)
        notes.append(f"the weights are for {found} classes")
    state_dict.fill(module, state, str(path), architecture)
    return Network(
        module=module.eval(), kind="state_dict", name=_file_name(architecture), info=None, notes=tuple(notes)
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
