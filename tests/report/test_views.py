"""What ``--json`` prints: exactly the fields that ``docs/json.md`` promises."""

import json
from pathlib import Path

import pytest

from edgecnn.bundle.comparison import ComparedPlace, ComparisonRecord, Figure, Ratio
from edgecnn.bundle.manifest import Check
from edgecnn.pipeline.verdict import Gates, accuracy_checks, check_drop
from edgecnn.report import views
from tests.bundles import (
    emulated_result,
    fixed_manifest,
    full_latency_result,
    fusion_record,
    latency_result,
    measurement,
    operator_profile,
    prediction_record,
    saturation_record,
    tiny_result,
    validation_failure,
    validation_result,
)
from tests.tunings import recommendation_record

DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"


def test_validation_has_exactly_its_fields() -> None:
    (result,) = fixed_manifest().validation
    check = check_drop(result, Gates(max_drop_pp=0.5))
    view = views.validation_view("artifacts/x", [result], [check], "passed", None, None)
    assert view.keys() == {
        "bundle", "n", "results", "checks", "failures", "predictions", "saturation", "fusion", "verdict",
    }  # fmt: skip
    assert view["checks"] == [check.model_dump(mode="json")]
    assert (view["saturation"], view["fusion"]) == (None, None)
    (row,) = view["results"]
    assert row.keys() == {
        "target", "int8_model", "float_bits", "float_top1", "int8_top1", "drop_pp", "drop_pp_low", "drop_pp_high",
        "agreement", "p_value", "n", "n_available", "passed", "max_drop_pp", "per_class",
        "float_against_cpu", "int8_against_cpu", "machine", "how", "provider", "float_nodes", "int8_nodes",
    }  # fmt: skip
    assert row["per_class"][0].keys() == {"name", "n", "float_top1", "int8_top1", "drop_pp"}
    assert (view["bundle"], view["n"], view["verdict"]) == ("artifacts/x", 8123, "passed")
    assert (row["float_top1"], row["drop_pp"], row["max_drop_pp"], row["passed"]) == (0.73219, 0.1234, 0.5, True)


def test_each_row_says_whether_its_own_gate_passed() -> None:
    results = [validation_result(target="cpu", drop_pp=0.2), validation_result(target="xnnpack", drop_pp=7)]
    checks = [check_drop(result, Gates(max_drop_pp=1)) for result in results]
    view = views.validation_view("b", results, checks, "failed", None, None)
    assert [(row["target"], row["passed"]) for row in view["results"]] == [("cpu", True), ("xnnpack", False)]


def test_a_target_elsewhere_is_held_against_this_cpu() -> None:
    result = emulated_result()
    checks = accuracy_checks([result], Gates())
    view = views.validation_view("b", [result], checks, "passed", saturation_record(), fusion_record())
    (row,) = view["results"]
    expected = {
        "argmax_flips": 7, "max_abs_logit_difference": 0.0123, "top1_change_pp": -0.0731,
        "top1_change_low_pp": None, "top1_change_high_pp": None,
    }  # fmt: skip
    assert row["float_against_cpu"] == expected
    assert row["int8_against_cpu"]["argmax_flips"] == 2763
    assert (row["how"], row["int8_nodes"]) == ("emulated", {"CPUExecutionProvider": 37})
    assert (row["n"], row["n_available"]) == (8123, 9001)
    assert row["machine"]["cpu"] == "Example CPU @ 2.50GHz"
    assert view["saturation"]["layers"][1]["outputs_that_can_saturate"] == 5
    assert view["saturation"]["exempt"] == {"depthwise": "it is widened"}
    assert (view["fusion"]["n"], view["fusion"]["argmax_flips"]) == (251, 17)
    assert view["fusion"]["unfused"][0] == {"layer": "gate_1", "op": "Mul", "reason": "left in float on purpose"}


LATENCY = {"p50_us", "p90_us", "p99_us", "n", "max_us", "images_per_second"}


def test_latency_has_exactly_its_fields() -> None:
    view = views.latency_view("artifacts/x", measurement(latency_result(), full_latency_result()))
    assert view.keys() == {"bundle", "machine", "results", "failures", "profiles", "protocol"}
    assert view["machine"].keys() == {
        "system", "architecture", "cpu", "cores", "cpu_features", "versions", "load_average",
    }  # fmt: skip
    for row in view["results"]:
        assert row.keys() == {
            "target", "batch", "threads", "through", "int8_model", "int8_session", "clock", "float", "int8",
            "speedup", "verdict", "precision",
            "float_startup", "int8_startup", "noise", "float_medians_us", "int8_medians_us", "pairs", "rounds",
            "pinned_cpus",
        }  # fmt: skip
        assert row["float"].keys() == row["int8"].keys() == LATENCY
        assert row["speedup"].keys() == {"median", "low", "high"}
    first, full = view["results"]
    assert (first["float"]["p50_us"], first["int8"]["p50_us"], first["speedup"]["low"]) == (23.51, 38.14, 0.6012)
    assert (first["noise"], first["precision"]) == (None, None)
    assert full["precision"] == {"asked": 0.0211, "found": 0.0373, "met": False, "max_seconds": 121.5}
    assert full["noise"]["warnings"] == ["the hypervisor took 1% of the CPU's time for others"]
    assert full["float_startup"]["peak_memory_bytes"] == 57192449
    assert (view["profiles"], view["protocol"]) == ([], None)


def test_a_profile_and_a_protocol_are_shown_whole() -> None:
    view = views.latency_view("b", measurement(profiles=(operator_profile(),), protocol=tiny_result()))
    (profile,) = view["profiles"]
    assert profile["layers"][0]["slower_in_int8"] is True
    assert len(profile["int8_model"]["operators"]) == 4
    assert view["protocol"]["int8_model"]["windows"][1] == 24123.4
    assert view["machine"]["cpu"] == "Example CPU @ 2.50GHz"


def test_no_result_no_machine() -> None:
    view = views.latency_view("b", measurement())
    assert view == {
        "bundle": "b", "machine": None, "results": [], "failures": [], "profiles": [], "protocol": None,
    }  # fmt: skip


COMPARISON = ComparisonRecord(
    a="x",
    b="y",
    places=(
        ComparedPlace(
            place="cpu", figures=(Figure(name="p50", model="int8", unit="us", a=1, b=2, ratio=Ratio(median=2.0)),)
        ),
    ),
    only_a=(),
    only_b=("z",),
    notes=("n",),
)


def test_a_comparison_shows_its_figures_and_the_verdict() -> None:
    check = Check(name="int8 time, cpu", measured=2.0, limit=1.05, unit="times, at most", passed=False)
    view = views.comparison_view(COMPARISON, [check], "failed")
    assert view.keys() == {"a", "b", "places", "only_a", "only_b", "notes", "checks", "verdict"}
    (place,) = view["places"]
    assert place["figures"][0]["ratio"] == {"median": 2.0, "low": None, "high": None}
    assert (view["checks"][0]["passed"], view["verdict"]) == (False, "failed")


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
        "bundle", "artifacts", "unchanged", "validation", "fitted", "latency", "failures", "predictions", "checks",
        "recommendation", "verdict",
    }  # fmt: skip
    assert view["recommendation"] is None
    shipped = manifest.model_copy(update={"recommendation": recommendation_record()})
    assert views.run_view("b", shipped, [])["recommendation"]["model"] == "int8.onnx"
    assert (view["unchanged"], view["verdict"]) == (["train"], "failed")
    assert view["latency"][0]["float"]["n"] == 84013
    passing = manifest.model_copy(update={"checks": manifest.checks[:1]})
    assert views.run_view("b", passing, [])["verdict"] == "passed"
    failed = views.run_view("b", passing, [], [validation_failure()], [prediction_record()])
    assert (failed["failures"][0]["target"], failed["verdict"]) == (validation_failure().target, "failed")
    assert failed["predictions"][0]["target"] == prediction_record().target


def test_targets_say_whether_they_are_ready() -> None:
    rows = [
        ("cpu", "this CPU", "ready", None, "x"),
        ("qnn", "a phone", "installable", "not here", "edgecnn targets install qnn"),
    ]
    first, second = views.targets_view(rows)["targets"]
    assert first == {
        "target": "cpu", "summary": "this CPU", "state": "ready", "ready": True, "why_not": None, "remedy": "x"
    }  # fmt: skip
    assert (second["state"], second["ready"], second["why_not"]) == ("installable", False, "not here")
    assert second["remedy"] == "edgecnn targets install qnn"


def test_an_error_is_an_object_of_its_own() -> None:
    view = views.error_view("DataError", "no images", "give some", 3)
    assert view == {"error": {"type": "DataError", "message": "no images", "next_step": "give some", "exit_code": 3}}


@pytest.mark.parametrize(
    "view",
    [
        views.validation_view(
            "b",
            [emulated_result()],
            accuracy_checks([emulated_result()], Gates()),
            "passed",
            saturation_record(),
            fusion_record(),
            [validation_failure()],
        ),
        views.targets_view([("cpu", "this CPU", "ready", None, "x")]),
        views.all_installed_view([], []),
        views.installed_view("cpu@haswell", None, "/usr/bin/qemu", unchanged=True),
        views.latency_view(
            "b", measurement(full_latency_result(), profiles=(operator_profile(),), protocol=tiny_result())
        ),
        views.comparison_view(COMPARISON, [], "passed"),
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
    told = [*view.get("failures", []), *view.get("targets", [])]
    for row in (view, *told, *view.get("results", []), *nested, *audited, *fused, *measured(view), *compared(view)):
        assert [name for name in row if f'"{name}"' not in document] == []


def measured(view: views.Json) -> list[views.Json]:
    """Return every object within a measurement."""
    rows = [row for row in view.get("results", []) if "noise" in row]
    inner = [row[name] for row in rows for name in ("float", "precision", "float_startup", "noise")]
    inner += [row["noise"]["trend"] for row in rows]
    profiles, protocol = view.get("profiles", []), view.get("protocol")
    models = [profile["int8_model"] for profile in profiles]
    inner += [*profiles, *models, *(model["operators"][0] for model in models), *(p["layers"][0] for p in profiles)]
    return [*inner, *([protocol, protocol["int8_model"]] if protocol else [])]


def compared(view: views.Json) -> list[views.Json]:
    """Return every object within a comparison."""
    figures = [figure for place in view.get("places", []) for figure in place["figures"]]
    return [*view.get("places", []), *figures, *(figure["ratio"] for figure in figures)]


def test_a_check_is_shown_whole() -> None:
    check = Check(name="n", measured=1.5, limit=2.0, unit="u", passed=True)
    view = views.run_view("b", fixed_manifest().model_copy(update={"checks": (check,)}), [])
    assert view["checks"] == [{"name": "n", "measured": 1.5, "limit": 2.0, "unit": "u", "passed": True}]
