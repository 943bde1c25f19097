"""Networks that edgecnn did not train, through the whole export stage."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgecnn.data.photos import photo_crops
from edgecnn.errors import StageError, UsageError
from edgecnn.models.simplecnn import SimpleCNN
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.export import export
from edgecnn.pipeline.export_settings import ExportSettings
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    torch.save({"state_dict": SimpleCNN(4).state_dict()}, tmp_path / "mine.pt")
    return tmp_path / "mine.pt"


def go(path: Path | str, folder: Path, **settings: object) -> Outcome:
    return export(path, settings=ExportSettings(**settings), options=Options(bundle=folder))  # type: ignore[arg-type]


def network_of(path: Path) -> SimpleCNN:
    network = SimpleCNN(4)
    network.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    return network.eval()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mean": MEAN, "std": STD},
        {"mean": (127.0, 127.0, 120.0), "std": (60.0, 61.0, 62.0), "scale": 1.0},
        {"channels": "bgr", "mean": MEAN},
        {"input_size": (48, 40), "resize": (32, 32), "std": STD},
        {"input_type": "uint8", "input_layout": "nhwc", "mean": MEAN, "std": STD, "channels": "bgr"},
        {"batch": 1, "opset": 19},
    ],
)
def test_the_preprocessing_is_in_the_graph(settings: dict[str, object], state: Path, tmp_path: Path) -> None:
    go(state, tmp_path / "bundle", architecture="simplecnn", **settings)
    session = reference_session((tmp_path / "bundle" / "float.onnx").read_bytes(), model_name="float.onnx")
    height, width = (48, 40) if "input_size" in settings else (32, 32)
    pixels = photo_crops(1, height, width)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).double()
    if settings.get("channels") == "bgr":
        x = x.flip(1)
    if "resize" in settings:
        x = functional.interpolate(x, size=settings["resize"], mode="bilinear", align_corners=False)  # type: ignore[arg-type]
    x = x * float(settings.get("scale", 1 / 255))  # type: ignore[arg-type]
    mean, std = (
        torch.tensor(settings.get(name, (default,) * 3)).view(1, 3, 1, 1)
        for name, default in (("mean", 0.0), ("std", 1.0))
    )
    with torch.inference_mode():
        expected = network_of(state)(((x - mean) / std).float()).numpy()
    found = session.run(feed(pixels, session.input))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_bundle_holds_the_file_and_where_it_came_from(state: Path, tmp_path: Path) -> None:
    outcome = go(state, tmp_path / "bundle", architecture="simplecnn", labels=("a", "b", "c", "d"))
    manifest = outcome.manifest
    assert (tmp_path / "bundle" / "model.pt").read_bytes() == state.read_bytes()
    assert manifest.stages["train"].settings == {"imported": True, "kind": "state_dict", "architecture": "simplecnn"}
    assert manifest.network is not None
    assert manifest.network.labels == ("a", "b", "c", "d")
    (artifact,) = outcome.artifacts
    assert artifact.tools["exporter"] == "torch.export"
    assert go(state, tmp_path / "bundle", architecture="simplecnn", labels=("a", "b", "c", "d")).unchanged
    assert not go(state, tmp_path / "bundle", architecture="simplecnn").unchanged


def test_labels_of_another_number_are_refused_and_nothing_is_written(state: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--labels names 2 classes; the network gives 4 logits"):
        go(state, tmp_path / "bundle", architecture="simplecnn", labels=("a", "b"))
    assert not (tmp_path / "bundle").exists()


def test_a_checkpoint_of_ours_states_its_own_normalization(bundle_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="states its own normalization"):
        go(bundle_copy / "model.pt", tmp_path / "other", mean=MEAN)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
def test_torchscript_goes_through_the_older_exporter_and_that_is_said(tmp_path: Path) -> None:
    torch.jit.script(SimpleCNN().eval()).save(str(tmp_path / "mine.ts"))  # type: ignore[no-untyped-call]
    with pytest.raises(UsageError, match="a torchscript does not say how large its pictures are"):
        go(tmp_path / "mine.ts", tmp_path / "bundle")
    outcome = go(tmp_path / "mine.ts", tmp_path / "bundle", input_size=(32, 32))
    assert outcome.artifacts[0].tools["exporter"] == "TorchScript"


def test_a_name_gets_random_weights(tmp_path: Path) -> None:
    outcome = go("simplecnn", tmp_path / "bundle")
    assert outcome.manifest.network is not None
    assert outcome.manifest.network.parameters == 62_006
    assert outcome.manifest.stages["train"].settings["kind"] == "random"


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = SimpleCNN()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x)
        return logits * 2 if x.max() > -1e9 else logits


def test_what_cannot_be_exported_is_one_message_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgecnn.models.architecture.build", lambda architecture, classes=None: Branches())
    with pytest.raises(StageError) as caught:
        export("own:net", settings=ExportSettings(input_size=(32, 32)), options=Options(bundle=tmp_path / "bundle"))
    assert "torch.export: " in caught.value.message
    assert "TorchScript: " in caught.value.message
    assert not (tmp_path / "bundle").exists()
    assert capfd.readouterr() == ("", "")
