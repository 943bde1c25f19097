"""Networks and model files that cannot be used: one clear message, the right exit code, and nothing written."""

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgecnn.cli import _main
from tests.bundles import snapshot

SIZE = ("--input-size", "8")


@dataclass(frozen=True)
class Failure:
    code: int
    message: str
    next_step: str


Fail = Callable[..., Failure]


@pytest.fixture
def fail(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fail]:
    """Return a way to run a command in ``tmp_path``: it must end in one error, and leave every file as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the current folder is put there

    def run(*arguments: object) -> Failure:
        before = snapshot(tmp_path)
        capfd.readouterr()
        code = _main([str(argument) for argument in arguments])
        found = capfd.readouterr()
        assert found.out == ""
        assert "Traceback" not in found.err
        notes, _, rest = f"\n{found.err}".partition("\nedgecnn: ")
        message, _, remedy = rest.partition("\nNext: ")
        assert message
        assert remedy.strip()
        assert "Next: " not in notes
        assert "edgecnn: " not in message, "one error, not two"
        assert remedy.count("\n") == 1, "nothing comes after the next step"
        assert snapshot(tmp_path) == before
        return Failure(code=code, message=message, next_step=remedy.strip())

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


# Networks that fail by themselves, or are no classifiers.

NETWORKS = {
    "TwoInputs": ("fails on images of [1, 3, 8, 8] (TypeError:", "missing 1 required positional argument: 'y'"),
    "ToGpu": ("fails on images", "NVIDIA"),
    "Pair": ("gives a tuple of 2; expected one tensor of logits",),
    "Named": ("gives a dictionary with out, aux; expected one tensor",),
    "Heatmap": ("gives [1, 4, 6, 6] for 1 images; expected logits [N, classes]",),
    "OneRow": ("gives [1, 3] for 2 images; expected logits",),
    "Classes": ("gives [1] for 1 images; expected logits",),
    "Integers": ("gives torch.int64; expected logits in float32",),
    "Gradient": ("fails on images", "does not require grad"),
    "AlwaysDropping": ("other answers to the same images the second time",),
    "Stubborn": ("other answers to the same images the second time",),
    "BatchStatistics": ("depends on the other images of the batch",),
    "BatchBranch": ("depends on the other images of the batch", "a branch on the values of the whole batch"),
    "Printing": ("fails on images of [1, 3, 8, 8] (OSError: my weights are on another disk)",),
    "Half": ("tests.bad_nets:Half: is in torch.float16 (conv.weight); expected a network in float32",),
    "empty": ("fails on images", 'missing the required "forward" function'),
    "nothing": ("gives [1, 3, 8, 8] for 1 images; expected logits [N, classes]",),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_is_no_classifier_of_images_is_refused(fail: Fail, name: str) -> None:
    found = fail("export", f"tests.bad_nets:{name}", *SIZE)
    for word in NETWORKS[name]:
        assert word in found.message
    assert found.code == 3


# Networks that PyTorch runs and ONNX cannot hold.

UNTRANSLATABLE = {
    "ControlFlow": (
        "torch.export: export: PyTorch could not",
        "data-dependent",
        "TorchScript: export: the network's path",
    ),
    "CustomOp": ("edgecnn_tests.twice", "unrecognized namespace edgecnn_tests::twice"),
    "CustomFunction": ("torch.export: export: PyTorch could not", "TorchScript: export: the network's path depends"),
}


@pytest.mark.parametrize("name", UNTRANSLATABLE)
def test_a_network_that_onnx_cannot_hold_is_refused_for_the_reason_of_each_exporter(fail: Fail, name: str) -> None:
    found = fail("export", f"tests.bad_nets:{name}", *SIZE)
    for word in UNTRANSLATABLE[name]:
        assert word in found.message
    assert found.code == 4
