"""What may be in a .pt2 archive: all that torch.export.save writes, and nothing that could run a program."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecnn.errors import CheckpointError
from edgecnn.models.pt2_vetting import vetted
from tests.bad_nets import Net
from tests.model_files import pt2, saved, with_member, with_more

PATH = Path("net.pt2")


class Everything(nn.Module):
    """Strings of every kind that an archive has: odd names, modes, equations, constants, sizes, a frozen branch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"my-key": nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")})
        self.register_buffer("mix", torch.eye(4))
        self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.interpolate(self.norm(self.layers["my-key"](x)), scale_factor=2.0, mode="bilinear")
        y = torch.einsum("nchw,cd->ndhw", y, self.mix) * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
        with torch.no_grad():
            y = y + 1
        logits: Tensor = self.fc(y.view(x.shape[0], 4, -1).mean(2))
        return logits


@pytest.fixture(scope="module")
def archive() -> bytes:
    return pt2(Net().eval())


def refusal(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        vetted(PATH, data)
    assert caught.value.message.startswith("net.pt2: ")
    assert caught.value.next_step
    return caught.value.message


def test_what_torch_saves_comes_through_with_the_same_answers() -> None:
    network, x = Everything().eval(), torch.rand(2, 3, 12, 10)
    sizes = {
        0: torch.export.Dim("batch", min=1),
        2: torch.export.Dim("height", min=8, max=64),
        3: torch.export.Dim("width", min=8, max=64),
    }
    data = vetted(PATH, pt2(network, x, dynamic=(sizes,)))
    module = torch.export.load(io.BytesIO(data)).module()
    assert torch.equal(module(x), network(x))
    other = torch.rand(5, 3, 9, 20)
    assert torch.equal(module(other), network(other))


def test_vetting_twice_changes_nothing_more(archive: bytes) -> None:
    def members(data: bytes) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            return {name: opened.read(name) for name in opened.namelist()}

    once = vetted(PATH, archive)
    assert members(vetted(PATH, once)) == members(once)


def test_files_that_a_user_put_in_are_left_out(archive: bytes) -> None:
    data = vetted(PATH, with_more(archive, {"ROOT/extra/labels (old).txt": b"cat"}))
    assert b"labels" not in data


@pytest.mark.parametrize(
    "member",
    [
        "ROOT/data/aotinductor/model/a.so",
        "ROOT/data/weights/model.pt",
        "ROOT/data/constants/model.pt",
        "ROOT/data/constants/custom_obj_0",
        "ROOT/models/evil.json",
        "ROOT/models/evil_json",
        "ROOT/data/weights/evil_weights_config.json",
        "ROOT/data/sample_inputs/evil.pt",
        "serialized_state_dict.pt",
        "version",
        "ROOT/executorch/x.pte",
        "ROOT/../models/model.json",
    ],
)
def test_a_member_that_torch_save_does_not_write_is_refused_by_name(archive: bytes, member: str) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        root = opened.namelist()[0].split("/")[0]
    message = refusal(with_more(archive, {member: b"{}"}))
    assert f"it holds {member.replace('ROOT', root)!r}" in message
    assert "was not opened" in message


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("name", ["ROOT/models/model.json", "ROOT/Models/MODEL.json"])
def test_a_member_that_is_there_twice_is_refused(archive: bytes, name: str) -> None:
    assert "is in it twice" in refusal(with_more(archive, {name: b"{}"}))


def edited(archive: bytes, change: Callable[[Any], None]) -> bytes:
    def edit(content: bytes) -> bytes:
        model = json.loads(content)
        change(model)
        return json.dumps(model).encode()

    return with_member(archive, "models/model.json", edit)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.higher_order.call_torchbind",
        "_operator.methodcaller",
        "_operator.call",
        "math.__loader__.load_module",
        "#sneaky",
        "os.system",
    ],
)
def test_an_operator_that_is_not_known_to_be_harmless_is_refused(archive: bytes, target: str) -> None:
    def change(model: Any) -> None:
        model["graph_module"]["graph"]["nodes"][0]["target"] = target

    assert f"it calls {target!r}" in refusal(edited(archive, change))


def test_a_custom_operator_is_named_as_one(archive: bytes) -> None:
    def change(model: Any) -> None:
        model["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.mine.twice.default"

    message = refusal(edited(archive, change))
    assert "uses the custom operator torch.ops.mine.twice.default" in message
    assert "run any program" not in message


@pytest.mark.parametrize(
    "text", ["x); import os; os.abort(", 'a"b', "a'b", "a\nb", "a\\b", "f(x)", "x[0]", "x@y", "a;b"]
)
@pytest.mark.parametrize("key", ["name", "parameter_name", "as_string", "fqn", "in_spec"])
def test_a_name_that_could_be_code_is_refused(archive: bytes, key: str, text: str) -> None:
    def change(model: Any) -> None:
        model["more"] = {key: json.dumps([{"context": json.dumps([text])}]) if key == "in_spec" else text}

    assert "in it is more than a name" in refusal(edited(archive, change))


def test_a_key_that_could_be_code_is_refused(archive: bytes) -> None:
    assert "more than a name" in refusal(edited(archive, lambda model: model.update({"f(x)": 1})))


def test_conditions_in_python_are_left_out(archive: bytes) -> None:
    def change(model: Any) -> None:
        model["guards_code"] = ["__import__('os').abort()"]

    assert b"__import__" not in vetted(PATH, edited(archive, change))


MODEL, WEIGHTS, CONSTANTS = "models/model.json", "model_weights_config.json", "model_constants_config.json"
DAMAGED = (b"{", b"[1]", b"\xff", b"[" * 100_000)


@pytest.mark.parametrize(
    ("member", "content"),
    [
        *((member, content) for member in (MODEL, WEIGHTS, CONSTANTS) for content in DAMAGED),
        (WEIGHTS, b'{"config": {"a": 1}}'),
        (CONSTANTS, b'{"config": [1]}'),
    ],
)
def test_a_damaged_description_is_refused(archive: bytes, member: str, content: bytes) -> None:
    assert "torch.export cannot read it" in refusal(with_member(archive, member, lambda _: content))


@pytest.mark.parametrize("content", [saved(Net), b"\x80\x02.", b"nothing", b"PK\x03\x04"])
def test_sample_inputs_that_are_not_plain_tensors_are_refused(archive: bytes, content: bytes) -> None:
    message = refusal(with_member(archive, "sample_inputs/model.pt", lambda _: content))
    assert "its sample inputs hold pickled code" in message
