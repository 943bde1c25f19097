"""What the scripts print into the docs is what the docs say."""

import json
from pathlib import Path

from edgecnn.bundle import Manifest

ROOT = Path(__file__).resolve().parent.parent


def test_the_schema_in_the_docs_is_the_manifests() -> None:
    documented = json.loads((ROOT / "docs" / "manifest.schema.json").read_text())
    assert documented == Manifest.model_json_schema(by_alias=True, mode="validation"), (
        "run: .venv/bin/python scripts/manifest_schema.py >docs/manifest.schema.json"
    )


def test_the_reference_bundle_is_of_this_schema() -> None:
    manifest = Manifest.model_validate_json((ROOT / "artifacts" / "simplecnn-cifar10" / "manifest.json").read_bytes())
    done = {"train", "export", "simplify", "tune", "quantize", "fit", "validate", "bench", "report"}
    assert manifest.stages.keys() == done
