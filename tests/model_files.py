"""Model files in every form that people have them, and ways to spoil them."""

import io
import os
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

#: The first dimension of a ``.pt2``; its images are 8x8.
BATCH = {0: torch.export.Dim("batch", min=1)}
ANY_SIZE = {**BATCH, 2: torch.export.Dim("height", min=8, max=64), 3: torch.export.Dim("width", min=8, max=64)}


class Bomb:
    """What a stranger could put in a pickle: leaves a folder where it was opened."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return (os.mkdir, ("owned",))


def saved(content: object, **settings: Any) -> bytes:
    """Return what ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **settings)
    return buffer.getvalue()


def pt2(network: nn.Module, *inputs: torch.Tensor, dynamic: Any = (BATCH,)) -> bytes:
    """Return what ``torch.export.save`` writes."""
    exported = torch.export.export(network, inputs or (torch.rand(2, 3, 8, 8),), dynamic_shapes=dynamic)
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    return buffer.getvalue()


def traced(network: nn.Module, example: torch.Tensor | None = None) -> bytes:
    """Return what ``torch.jit.save`` writes of a trace."""
    buffer = io.BytesIO()
    example = torch.rand(2, 3, 8, 8) if example is None else example
    torch.jit.save(torch.jit.trace(network, example, check_trace=False), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def with_member(archive: bytes, ending: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return a zip with the members whose names end so changed."""
    buffer, touched = io.BytesIO(), 0
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(ending):
                content, touched = change(content), touched + 1
            new.writestr(name, content)
    assert touched
    return buffer.getvalue()


def with_more(archive: bytes, members: dict[str, bytes]) -> bytes:
    """Return a zip with more members, in the folder that the others are in."""
    buffer = io.BytesIO(archive)
    with zipfile.ZipFile(buffer, "a") as new:
        root = new.namelist()[0].split("/")[0]
        for name, content in members.items():
            new.writestr(name.replace("ROOT", root), content)
    return buffer.getvalue()


def on_gpu(archive: bytes) -> bytes:
    """Return a zip of torch's whose tensors say that they were saved from a GPU."""

    def move(pickled: bytes) -> bytes:
        assert b"X\x03\x00\x00\x00cpu" in pickled
        return pickled.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")

    return with_member(archive, "/data.pkl", move)
