"""What ``--json`` prints: exactly the fields that ``docs/json.md`` promises."""

import json
from pathlib import Path

import pytest

from edgecnn.bundle.manifest import Check
from edgecnn.pipeline.verdict import Gates, check_drop
from edgecnn.report import views
from tests.bundles import (
    emulated_result,
    fixed_manifest,
    fusion_record,
    latency_result,
    saturation_record,
    validation_result,
)
from tests.tunings import recommendation_record

DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"


def test_validation_has_exactly_its_fields() -> None:
    (result,) = fixed_manifest().validation
    check = check_drop(result, Gates(max_drop_pp=0.5))
    view = views.validation_view("artifacts/x", [(result, check)], "passed", None, None)
    assert view.keys() == {"bundle", "n", "results", "saturation", "fusion", "verdict"}
    assert (view["saturation"], view["fusion"]) == (None, None)
    (row,) = view["results"]
    assert row.keys() == {
        "target", "float_top1", "int8_top1", "drop_pp", "drop_pp_low", "drop_pp_high",
        "agreement", "p_value", "n", "n_available", "passed", "max_drop_pp", "per_class",
        "float_against_cpu", "int8_against_cpu", "machine",
    }  # fmt: skip
    assert row["per_class"][0].keys() == {"name", "n", "float_top1", "int8_top1", "drop_pp"}
    assert (view["bundle"], view["n"], view["verdict"]) == ("artifacts/x", 8123, "passed")
    assert (row["float_top1"], row["drop_pp"], row["max_drop_pp"], row["passed"]) == (0.73219, 0.1234, 0.5, True)


def test_each_row_says_whether_its_own_gate_passed() -> None:
    results = [validation_result(target="cpu", drop_pp=0.2), validation_result(target="xnnpack", drop_pp=7)]
    checks = [check_drop(result, Gates(max_drop_pp=1)) for result in results]
    view = views.validation_view("b", list(zip(results, checks, strict=True)), "failed", None, None)
    assert [(row["target"], row["passed"]) for row in view["results"]] == [("cpu", True), ("xnnpack", False)]


def test_a_target_elsewhere_is_held_against_this_cpu() -> None:
    result = emulated_result()
    view = views.validation_view(
        "b", [(result, check_drop(result, Gates()))], "passed", saturation_record(), fusion_record()
    )
    (row,) = view["results"]
    assert row["float_against_cpu"] == {"argmax_flips": 7, "max_abs_logit_difference": 0.0123}
    assert row["int8_against_cpu"] == {"argmax_flips": 2763, "max_abs_logit_difference": 1.2345}
    assert (row["n"], row["n_available"]) == (8123, 9001)
    assert row["machine"]["cpu"] == "Example CPU @ 2.50GHz"
    assert view["saturation"]["layers"][1]["outputs_that_can_saturate"] == 5
    assert view["saturation"]["exempt"] == {"depthwise": "it is widened"}
    assert (view["fusion"]["n"], view["fusion"]["argmax_flips"]) == (251, 17)
    assert view["fusion"]["unfused"][0] == {"layer": "gate_1", "op": "Mul", "reason": "left in float on purpose"}


def test_latency_has_exactly_its_fields() -> None:
    view = views.latency_view("artifacts/x", [latency_result(), latency_result(batch=8)])
    assert view.keys() == {"bundle", "machine", "results"}
    assert view["machine"].keys() == {
        "system", "architecture", "cpu", "cores", "cpu_features", "versions", "load_average",
    }  # fmt: skip
    for row in view["results"]:
        assert row.keys() == {
            "target", "batch", "threads", "clock", "float", "int8", "speedup", "verdict", "pairs", "rounds",
            "pinned_cpus",
        }  # fmt: skip
        assert row["float"].keys() == row["int8"].keys() == {"p50_us", "p90_us", "p99_us", "n"}
        assert row["speedup"].keys() == {"median", "low", "high"}
    first = view["results"][0]
    assert (first["float"]["p50_us"], first["int8"]["p50_us"], first["speedup"]["low"]) == (23.51, 38.14, 0.6012)


def test_no_result_no_machine() -> None:
    assert views.latency_view("b", []) == {"bundle": "b", "machine": None, "results": []}


def test_a_stage_shows_its_files() -> None:
    artifacts = fixed_manifest().artifacts[1:2]
    view = views.artifacts_view("b", artifacts, "passed", unchanged=True)
    assert view.keys() == {"bundle", "artifacts", "unchanged", "verdict"}
    assert view["unchanged"] is True
    (row,) = view["artifacts"]
    assert row.keys() == {"stage", "path", "sha256", "size_bytes", "parent_sha256", "input", "output", "tools"}
    assert row["input"] == {"name": "input", "dtype": "float32", "shape": ["batch", 3, 32, 32]}


def test_a_run_shows_everything_and_its_verdict() -> None:
    manifest = fixed_manifest()
    view = views.run_view("b", manifest, ["train"])
    assert view.keys() == {
        "bundle", "artifacts", "unchanged", "validation", "latency", "checks", "recommendation", "verdict",
    }  # fmt: skip
    assert view["recommendation"] is None
    shipped = manifest.model_copy(update={"recommendation": recommendation_record()})
    assert views.run_view("b", shipped, [])["recommendation"]["model"] == "int8.onnx"
    assert (view["unchanged"], view["verdict"]) == (["train"], "failed")
    assert view["latency"][0]["float"]["n"] == 84013
    passing = manifest.model_copy(update={"checks": manifest.checks[:1]})
    assert views.run_view("b", passing, [])["verdict"] == "passed"


def test_targets_say_whether_they_are_ready() -> None:
    view = views.targets_view([("cpu", "this CPU", None, "x"), ("qnn", "a phone", "not here", "buy one")])
    assert view == {
        "targets": [
            {"target": "cpu", "summary": "this CPU", "ready": True, "why_not": None, "remedy": "x"},
            {"target": "qnn", "summary": "a phone", "ready": False, "why_not": "not here", "remedy": "buy one"},
        ]
    }


def test_an_error_is_an_object_of_its_own() -> None:
    view = views.error_view("DataError", "no images", "give some", 3)
    assert view == {"error": {"type": "DataError", "message": "no images", "next_step": "give some", "exit_code": 3}}


@pytest.mark.parametrize(
    "view",
    [
        views.validation_view(
            "b",
            [(emulated_result(), check_drop(emulated_result(), Gates()))],
            "passed",
            saturation_record(),
            fusion_record(),
        ),
        views.installed_view("cpu@haswell", None, "/usr/bin/qemu", unchanged=True),
        views.latency_view("b", [latency_result()]),
        views.artifacts_view("b", fixed_manifest().artifacts, "passed", unchanged=False),
        views.run_view("b", fixed_manifest(), []),
    ],
)
def test_every_view_is_json_and_every_field_is_documented(view: views.Json) -> None:
    assert json.loads(json.dumps(view, allow_nan=False)) == view
    document = DOCUMENT.read_text()
    nested = [row["int8_against_cpu"] for row in view.get("results", []) if row.get("int8_against_cpu")]
    audited = [view["saturation"], *view["saturation"]["layers"]] if view.get("saturation") else []
    fused = [view["fusion"], *view["fusion"]["unfused"]] if view.get("fusion") else []
    for row in (view, *view.get("results", []), *nested, *audited, *fused):
        assert [name for name in row if f'"{name}"' not in document] == []


def test_a_check_is_shown_whole() -> None:
    check = Check(name="n", measured=1.5, limit=2.0, unit="u", passed=True)
    view = views.run_view("b", fixed_manifest().model_copy(update={"checks": (check,)}), [])
    assert view["checks"] == [{"name": "n", "measured": 1.5, "limit": 2.0, "unit": "u", "passed": True}]
