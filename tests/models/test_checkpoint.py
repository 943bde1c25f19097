import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgecnn.bundle.manifest import DataRecord, EpochRecord
from edgecnn.errors import CheckpointError
from edgecnn.models import MODELS, checkpoint, model_spec
from edgecnn.models.checkpoint import CheckpointInfo

CLASSES = ("ant", "bee", "cat")


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def make_info(model: str = "simplecnn", **changes: Any) -> CheckpointInfo:
    _, height, width = model_spec(model).input_shape
    fields: dict[str, Any] = {
        "model": model,
        "input_shape": model_spec(model).input_shape,
        "classes": CLASSES,
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "config": {"epochs": 2, "flip": None},
        "data": DataRecord(
            source="npz",
            name="a.npz",
            sha256="ab" * 32,
            classes=CLASSES,
            n_train=4,
            n_test=2,
            image_shape=(height, width, 3),
            resize="rule",
        ),
        "curve": (EpochRecord(epoch=1, loss=1.5, train_top1=0.25, learning_rate=0.01),),
    }
    return CheckpointInfo(**(fields | changes))


def make_module(model: str = "simplecnn", seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model_spec(model).build(len(CLASSES))


WHOLE = checkpoint.pack(make_info(), make_module())


def content(**changes: Any) -> dict[str, Any]:
    return {"info": make_info().model_dump(mode="json"), "state_dict": make_module().state_dict()} | changes


def with_info(**changes: Any) -> dict[str, Any]:
    return content(info=make_info().model_dump(mode="json") | changes)


def with_weights(**changes: Any) -> dict[str, Any]:
    return content(state_dict=dict(make_module().state_dict()) | {"fc3.bias": changes["fc3_bias"]})


def refusal(path: Path, data: bytes | dict[str, Any] | None = None) -> str:
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif data is not None:
        torch.save(data, path)
    with pytest.raises(CheckpointError) as raised:
        checkpoint.load(path)
    assert raised.value.exit_code == 3
    assert raised.value.next_step
    assert raised.value.message.startswith(f"{path}: ")
    return raised.value.message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pt"


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_comes_back_as_the_same_network(model: str, path: Path) -> None:
    info, module = make_info(model), make_module(model)
    module(torch.randn(4, *info.input_shape))  # moves the statistics of batch norm
    path.write_bytes(checkpoint.pack(info, module))
    found_info, found = checkpoint.load(path)
    assert found_info == info
    assert not found.training
    x = torch.randn(2, *info.input_shape)
    assert torch.equal(found(x), module.eval()(x))
    assert checkpoint.pack(found_info, found) == path.read_bytes()


@pytest.mark.parametrize("model", MODELS)
def test_the_same_network_gives_the_same_bytes(model: str) -> None:
    info = make_info(model)
    once = checkpoint.pack(info, make_module(model))
    assert once == checkpoint.pack(info, make_module(model))
    assert once == checkpoint.pack(info, make_module(model).to(memory_format=torch.channels_last))
    assert once != checkpoint.pack(info, make_module(model, seed=1))
    assert once != checkpoint.pack(make_info(model, mean=(0.1, 0.2, 0.4)), make_module(model))


def test_a_file_that_is_not_there_is_refused(path: Path) -> None:
    assert "expected a checkpoint file, found nothing" in refusal(path)


def test_a_folder_is_refused(path: Path) -> None:
    path.mkdir()
    assert "expected a checkpoint file, found a folder" in refusal(path)


def test_an_empty_file_is_refused(path: Path) -> None:
    assert "found an empty file" in refusal(path, b"")


def test_a_file_one_may_not_read_is_refused(path: Path) -> None:
    path.write_bytes(WHOLE)
    path.parent.chmod(0)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)
    try:
        assert "not readable (Permission denied)" in refusal(path)
    finally:
        if as_root:
            os.seteuid(0)
        path.parent.chmod(0o700)


def test_a_truncated_file_is_refused_wherever_it_is_cut(path: Path) -> None:
    for kept in [*range(1, 200, 7), *range(200, len(WHOLE), 1999), len(WHOLE) - 1]:
        assert "truncated" in refusal(path, WHOLE[:kept])


def test_a_damaged_file_is_refused_or_the_same_network(path: Path) -> None:
    refused = 0
    positions = range(0, len(WHOLE), 1499)
    for position in positions:
        damaged = bytearray(WHOLE)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            found = checkpoint.load(path)
        except CheckpointError:
            refused += 1
        else:
            assert checkpoint.pack(*found) == WHOLE
    assert refused > len(positions) * 0.9


def test_one_changed_bit_of_a_weight_is_noticed_by_the_checksum(path: Path) -> None:
    damaged = bytearray(WHOLE)
    damaged[WHOLE.index(make_module().state_dict()["fc1.weight"].numpy().tobytes()) + 2] ^= 1
    assert "damaged; the checksum of archive/data/" in refusal(path, bytes(damaged))


def with_pickle(pickled: bytes) -> bytes:
    """The checkpoint with another pickle inside, and right checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()


def test_a_truncated_pickle_inside_is_refused_wherever_it_is_cut(path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        pickled = archive.read("archive/data.pkl")
    path.write_bytes(with_pickle(pickled))
    assert checkpoint.load(path)[0] == make_info()
    for kept in range(2, len(pickled), 11):
        refusal(path, with_pickle(pickled[:kept]))


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02.",  # nothing to return
        b"\x80\x02h\x05.",  # what was never remembered
        b"\x80\x02K\x01Q.",  # a storage that is a number
        b"\x80\x02}]Ns.",  # a list as a key
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03tR.",  # a tensor made of numbers
        b"\x80\x02X\x09\x00\x00\x00ab.",  # a text that is too short
        b"\x80\x02X\x01\x00\x00\x00\xff.",  # a text that is not UTF-8
    ],
)
def test_a_pickle_inside_that_makes_no_sense_is_refused(path: Path, pickled: bytes) -> None:
    assert "torch cannot read" in refusal(path, with_pickle(pickled))


@pytest.mark.parametrize("flag", [6, 8])
def test_a_zip_that_python_cannot_read_is_refused(path: Path, flag: int) -> None:
    entry = WHOLE.index(b"PK\1\2")
    damaged = bytearray(WHOLE)
    damaged[entry + flag] = 0xFF  # the version needed to unpack; the encryption flag
    assert "truncated or not one" in refusal(path, bytes(damaged))


@pytest.mark.parametrize(
    "data", [b"no checkpoint", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", bytes(5000), b"PK\5\6" + bytes(18)]
)
def test_a_file_of_another_kind_is_refused(path: Path, data: bytes) -> None:
    refusal(path, data)


def test_a_zip_of_something_else_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "dear reader")
    assert "torch cannot read" in refusal(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_never_executed(path: Path, tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "trap"
    data = pickle.dumps(Payload(trap), protocol=protocol)
    message = refusal(path, data)
    assert ("a bare pickle, which can run any program" in message) == (protocol >= 2)
    assert not trap.exists()
    pickle.loads(data)  # the trap is a real one
    assert trap.exists()


def test_the_format_of_old_torch_is_a_bare_pickle(path: Path) -> None:
    torch.save(make_module().state_dict(), path, _use_new_zipfile_serialization=False)
    assert "a bare pickle" in refusal(path)


@pytest.mark.parametrize("place", ["info", "state_dict", "top"])
def test_code_inside_a_torch_file_is_never_executed(path: Path, tmp_path: Path, place: str) -> None:
    trap = tmp_path / "trap"
    message = refusal(path, content(**{place: Payload(trap)}))
    assert "holds pickled code, which can run any program when it is read; it was not opened" in message
    assert not trap.exists()
    torch.load(path, weights_only=False)  # the trap is a real one
    assert trap.exists()


def test_a_whole_pickled_module_is_refused(path: Path) -> None:
    torch.save(make_module(), path)
    assert "holds pickled code" in refusal(path)


@pytest.mark.parametrize(
    ("saved", "found"),
    [
        (make_module().state_dict(), "found conv1.weight, conv1.bias"),
        ({}, "found an empty dictionary"),
        ([1, 2], "found list"),
        ({"state_dict": {}}, "found state_dict"),
    ],
)
def test_what_others_save_is_refused_and_named(path: Path, saved: Any, found: str) -> None:
    torch.save(saved, path)
    message = refusal(path)
    assert "expected a checkpoint of edgecnn" in message
    assert found in message


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"format": "other"}, "format"),
        ({"version": 2}, "version"),
        ({"classes": []}, "classes"),
        ({"std": [0.5, 0.5, 0]}, "std.2"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"mean": [float("nan")] * 3}, "mean.0"),
        ({"config": {"rate": float("inf")}}, "config.rate"),
        ({"surprise": 1}, "surprise"),
        ({"data": None}, "data"),
    ],
)
def test_a_description_that_is_not_one_is_refused_and_named(path: Path, changes: dict[str, Any], where: str) -> None:
    message = refusal(path, with_info(**changes))
    assert f"expected a checkpoint of edgecnn, found a problem at {where}" in message


@pytest.mark.parametrize("info", [None, 3, [], "text"])
def test_a_description_of_another_type_is_refused(path: Path, info: object) -> None:
    assert "found a problem at info" in refusal(path, content(info=info))


def test_another_architecture_is_named_with_the_known_ones(path: Path) -> None:
    message = refusal(path, with_info(model="resnet50"))
    assert "is of the architecture 'resnet50'" in message
    assert all(name in message for name in MODELS)


def test_another_input_shape_is_refused(path: Path) -> None:
    message = refusal(path, with_info(input_shape=[3, 28, 28]))
    assert "simplecnn takes [3, 32, 32], found the input shape [3, 28, 28]" in message


def test_other_widths_are_named_layer_by_layer(path: Path) -> None:
    message = refusal(path, with_info(classes=["a", "b"]))
    assert "fc3.bias is [3] instead of [2]; fc3.weight is [3, 84] instead of [2, 84]" in message


def test_the_weights_of_another_network_are_listed_but_not_all(path: Path) -> None:
    message = refusal(path, content(state_dict={f"layer{n}": torch.zeros(1) for n in range(5)}))
    assert "the weights are not those of simplecnn: conv1.bias is missing; conv1.weight is missing" in message
    assert message.endswith("and 7 more.")


def test_missing_and_left_over_weights_are_named(path: Path) -> None:
    state = dict(make_module().state_dict())
    state["fc4.weight"] = state.pop("fc2.bias")
    message = refusal(path, content(state_dict=state))
    assert message.endswith("the weights are not those of simplecnn: fc2.bias is missing; fc4.weight is left over.")


@pytest.mark.parametrize("state", [None, [], 3, {}])
def test_without_any_weights_all_are_missing(path: Path, state: object) -> None:
    assert "and 2 more" in refusal(path, content(state_dict=state))


@pytest.mark.parametrize(
    ("bias", "problem"),
    [
        (torch.tensor([0.0, float("nan"), 0.0]), "holds NaN or infinite values"),
        (torch.tensor([0.0, float("inf"), 0.0]), "holds NaN or infinite values"),
        (torch.zeros(3, dtype=torch.float64), "is torch.float64 instead of torch.float32"),
        (torch.zeros(3, 1), "is [3, 1] instead of [3]"),
        (torch.zeros(3, device="meta"), "is not a dense tensor"),
        ([0.0, 0.0, 0.0], "is not a tensor"),
    ],
)
def test_a_weight_that_cannot_be_used_is_named(path: Path, bias: object, problem: str) -> None:
    assert refusal(path, with_weights(fc3_bias=bias)).endswith(f"simplecnn: fc3.bias {problem}.")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")
def test_a_sparse_weight_is_refused(path: Path) -> None:
    assert "fc3.bias is not a dense tensor" in refusal(path, with_weights(fc3_bias=torch.zeros(3).to_sparse()))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(3_000_000))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(checkpoint, "MAX_CHECKPOINT_BYTES", 1_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked a bomb"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened a bomb"))
    assert "unpacks to more than 1000000 bytes" in refusal(path)


def test_a_file_larger_than_any_checkpoint_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(WHOLE)
    monkeypatch.setattr(checkpoint, "MAX_CHECKPOINT_BYTES", 1000)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read it"))
    assert "larger than 1000 bytes" in refusal(path)
