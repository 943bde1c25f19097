import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from edgecnn.bundle import Bundle, Manifest
from edgecnn.bundle.folder import to_json
from edgecnn.bundle.manifest import DOWNSTREAM, SCHEMA_VERSION, Artifact, Check, Record, StageName, StageRecord
from edgecnn.errors import BundleError

SHA = "ab" * 32
STAGES: tuple[StageName, ...] = get_args(StageName)


def stage_record(**changes: Any) -> dict[str, Any]:
    return {
        "inputs": {"data": SHA},
        "settings": {"epochs": 2, "flip": None, "nested": {"list": [1, "two", 3.5, True]}},
        "outputs": {"model.pt": SHA},
        "finished_at": "2026-01-02T03:04:05Z",
        "seconds": 1.5,
    } | changes


def artifact(**changes: Any) -> dict[str, Any]:
    return {"stage": "train", "path": "model.pt", "sha256": SHA, "size_bytes": 3} | changes


def manifest(**changes: Any) -> dict[str, Any]:
    return {
        "format": "edgecnn-bundle",
        "schema_version": 1,
        "edgecnn_version": "1.2.3",
        "artifacts": [artifact()],
        "stages": {"train": stage_record()},
        "checks": [{"name": "drop", "measured": 0.1, "limit": 1.0, "unit": "pp", "passed": True}],
    } | changes


def opened(folder: Path, text: str | bytes) -> Manifest:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "manifest.json").write_bytes(data)
    return Bundle.open(folder).manifest


def refused(folder: Path, text: str | bytes, *words: str) -> None:
    with pytest.raises(BundleError) as raised:
        opened(folder, text)
    assert str(folder / "manifest.json") in raised.value.message
    assert f"expected a bundle manifest of version {SCHEMA_VERSION}" in raised.value.message
    assert raised.value.next_step
    for word in words:
        assert word in raised.value.message


def test_a_manifest_is_read_and_written_back_the_same(tmp_path: Path) -> None:
    read = opened(tmp_path, json.dumps(manifest()))
    assert read.artifacts == (Artifact(stage="train", path="model.pt", sha256=SHA, size_bytes=3),)
    assert read.stages["train"].finished_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert read.stages["train"].settings["nested"] == {"list": [1, "two", 3.5, True]}
    assert read.checks == (Check(name="drop", measured=0.1, limit=1.0, unit="pp", passed=True),)
    assert Manifest.model_validate_json(to_json(read)) == read
    assert json.loads(to_json(read)).items() >= {"schema_version": 1, "format": "edgecnn-bundle"}.items()
    assert to_json(read).endswith(b"}\n")


@pytest.mark.parametrize(
    "name",
    [
        "../model.pt",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:x",
        ".hidden",
        "-option",
        "a\n",
        "a\0b",
        "a b",
        "ä.pt",
        "a" * 101,
    ],
)
def test_a_name_that_is_not_a_plain_file_name_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, json.dumps(manifest(artifacts=[artifact(path=name)])), "artifacts.0.path")
    refused(tmp_path, json.dumps(manifest(stages={"train": stage_record(outputs={name: SHA})})), "outputs")


@pytest.mark.parametrize("name", ["model.pt", "float.onnx", "report.html", "A_b-1.2", "0", "a" * 100])
def test_a_plain_file_name_is_accepted(tmp_path: Path, name: str) -> None:
    assert opened(tmp_path, json.dumps(manifest(artifacts=[artifact(path=name)]))).artifacts[0].path == name


@pytest.mark.parametrize("sha256", ["", "ab", "AB" * 32, "zz" * 32, SHA + "\n", SHA + "0"])
def test_a_hash_that_is_not_one_is_refused(tmp_path: Path, sha256: str) -> None:
    refused(tmp_path, json.dumps(manifest(artifacts=[artifact(sha256=sha256)])), "artifacts.0.sha256")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"surprise": 1}, "surprise"),
        ({"artifacts": [artifact(surprise=1)]}, "artifacts.0.surprise"),
        ({"stages": {"train": stage_record(surprise=1)}}, "stages.train.surprise"),
        ({"stages": {"paint": stage_record()}}, "stages.paint"),
    ],
)
def test_an_unknown_key_is_refused_and_named(tmp_path: Path, changes: dict[str, Any], where: str) -> None:
    refused(tmp_path, json.dumps(manifest(**changes)), where)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["seconds", "settings", "deep in settings", "check"])
def test_a_number_that_is_none_is_refused(tmp_path: Path, number: str, place: str) -> None:
    content = {
        "seconds": manifest(stages={"train": stage_record(seconds="HERE")}),
        "settings": manifest(stages={"train": stage_record(settings={"rate": "HERE"})}),
        "deep in settings": manifest(stages={"train": stage_record(settings={"a": [{"b": "HERE"}]})}),
        "check": manifest(checks=[{"name": "drop", "measured": "HERE", "limit": 1, "unit": "pp", "passed": True}]),
    }[place]
    refused(tmp_path, json.dumps(content).replace('"HERE"', number), "checks.0" if place == "check" else "stages.train")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version_is_refused(tmp_path: Path, version: object) -> None:
    refused(tmp_path, json.dumps(manifest(schema_version=version)), "schema_version")


def test_another_format_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, json.dumps(manifest(format="onnx")), "format")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "no JSON", b"\xff\xfe{}", "[" * 100_000, '{"edgecnn_version": "\\ud800"}']
)
def test_a_file_that_is_not_a_manifest_is_refused(tmp_path: Path, text: str | bytes) -> None:
    refused(tmp_path, text, "the file")


@pytest.mark.parametrize("kept", range(0, 400, 40))
def test_a_truncated_manifest_is_refused(tmp_path: Path, kept: int) -> None:
    whole = to_json(Manifest.model_validate(manifest()))
    assert kept < len(whole) - 2
    refused(tmp_path, whole[:kept], "the file")


@pytest.mark.parametrize("missing", ["edgecnn_version"])
def test_a_missing_key_is_named(tmp_path: Path, missing: str) -> None:
    content = manifest()
    del content[missing]
    refused(tmp_path, json.dumps(content), missing, "required")


def test_a_record_cannot_be_changed() -> None:
    read = Manifest.model_validate(manifest())
    with pytest.raises(ValidationError, match="frozen"):
        read.edgecnn_version = "2"  # type: ignore[misc]


def test_every_kind_of_record_refuses_unknown_keys_and_changes() -> None:
    kinds = Record.__subclasses__()
    assert len(kinds) > 10
    for kind in kinds:
        assert kind.model_config["extra"] == "forbid", kind
        assert kind.model_config["frozen"], kind
        assert kind.model_config["allow_inf_nan"] is False, kind


def test_the_newest_artifact_of_a_name_is_the_one_made_last() -> None:
    exported, simplified = artifact(stage="export", path="m.onnx"), artifact(stage="simplify", path="m.onnx")
    read = Manifest.model_validate(manifest(artifacts=[exported, simplified]))
    found = read.artifact("m.onnx")
    assert found is not None
    assert found.stage == "simplify"
    assert read.artifact("other.onnx") is None


def test_downstream_knows_every_stage_and_only_later_ones() -> None:
    assert tuple(DOWNSTREAM) == STAGES
    for stage, later in DOWNSTREAM.items():
        assert set(later) <= set(STAGES[STAGES.index(stage) + 1 :])


def test_what_follows_from_a_stage_follows_from_what_it_follows_from() -> None:
    for later in DOWNSTREAM.values():
        for name in later:
            assert set(DOWNSTREAM[name]) <= set(later)
    assert all("report" in later for stage, later in DOWNSTREAM.items() if stage != "report")


def test_a_stage_record_needs_every_field() -> None:
    assert all(field.is_required() for field in StageRecord.model_fields.values())
