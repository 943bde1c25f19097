"""A plain ``state_dict`` as people really save it: inside other dictionaries, with prefixes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgecnn.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Keys under which training scripts keep the weights, in the order in which they are preferred.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema", "ema_state_dict", "state_dict_ema", "model_ema")
#: What DataParallel, torch.compile and Lightning put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "ema_model.")
_MAX_DEPTH = 4


def unwrap(content: object, path: str, expected: set[str]) -> "tuple[dict[str, Tensor], list[str]]":
    """Find the weights in what a checkpoint holds.

    Args:
        content: what was unpickled, tensors and plain containers only.
        path: the file, for messages.
        expected: the names that the network has; a prefix is taken off only if they do not have it.

    Returns:
        The weights, and a line for everything that was taken off.

    Raises:
        CheckpointError: there are no weights in it.
    """
    notes: list[str] = []
    for _ in range(_MAX_DEPTH):
        if isinstance(content, Mapping) and content and all(_is_tensor(value) for value in content.values()):
            return _without_prefixes({str(name): value for name, value in content.items()}, expected, notes)
        found = [key for key in WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)]
        if not found:
            break
        assert isinstance(content, Mapping)
        others = f" (and not {', '.join(found[1:])})" if len(found) > 1 else ""
        notes.append(f"took the weights from {found[0]!r}{others}")
        content = content[found[0]]
    keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
    raise CheckpointError(
        f"{path}: expected a state_dict, found {keys or 'an empty dictionary'}.",
        next_step="save the weights alone: torch.save(model.state_dict(), ...)",
    )


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _without_prefixes(
    state: "dict[str, Tensor]", expected: set[str], notes: list[str]
) -> "tuple[dict[str, Tensor], list[str]]":
    """Take off prefixes that every name has and the network's names do not."""
    changed = True
    while changed:
        changed = False
        for prefix in PREFIXES:
            all_have_it = all(name.startswith(prefix) for name in state)
            if all_have_it and not any(name.startswith(prefix) for name in expected):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
                notes.append(f"took the prefix {prefix!r} off every name")
                changed = True
    return state, notes


def mismatches(expected: "Mapping[str, Tensor]", found: Mapping[str, Any]) -> list[str]:
    """List by name what is missing, left over, of another shape or type, or not finite."""
    import torch

    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is left over" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        tensor = found[name]
        if not isinstance(tensor, torch.Tensor):
            problems.append(f"{name} is not a tensor")
        elif tensor.is_meta or tensor.layout != torch.strided:
            problems.append(f"{name} is not a dense tensor")
        elif tensor.shape != expected[name].shape:
            problems.append(f"{name} is {list(tensor.shape)} instead of {list(expected[name].shape)}")
        elif tensor.dtype != expected[name].dtype:
            problems.append(f"{name} is {tensor.dtype} instead of {expected[name].dtype}")
        elif tensor.is_floating_point() and not torch.isfinite(tensor).all():
            problems.append(f"{name} holds NaN or infinite values")
    return sorted(problems)


def fill(module: "nn.Module", state: "Mapping[str, Tensor]", path: str, architecture: str) -> None:
    """Put the weights in, or list by name everything that does not fit.

    Raises:
        CheckpointError: something is missing, left over, of another shape, or not finite.
    """
    problems = mismatches(module.state_dict(), state)
    if problems:
        raise CheckpointError(
            f"{path}: the weights are not those of {architecture}: {'; '.join(problems)}.",
            next_step="name the architecture they belong to with --arch, or save them from this one",
        )
    module.load_state_dict(dict(state))


def count_classes(module: "nn.Module", state: "Mapping[str, Tensor]") -> int | None:
    """Return the number of classes that the weights have, read off the network's last bias or weight."""
    last = next(reversed(module.state_dict()), None)
    return int(state[last].shape[0]) if last is not None and last in state and state[last].ndim else None
