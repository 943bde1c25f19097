"""Gates are pure functions: what was measured, what was asked, passed or not."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.bundle.manifest import Check
from edgecnn.errors import ExitCode, UsageError
from edgecnn.pipeline.verdict import (
    Gates,
    Verdict,
    all_checks,
    check_drop,
    check_size,
    check_speedup,
    merge,
    parse_size,
)
from tests.bundles import fitted_manifest, fixed_manifest, full_latency_result, latency_result, validation_result

points = st.floats(-100, 100)


def check(name: str, *, passed: bool = True, measured: float = 0.0) -> Check:
    return Check(name=name, measured=measured, limit=1.0, unit="points", passed=passed)


@given(drop=points, limit=st.floats(0, 100))
def test_the_drop_passes_up_to_the_limit_and_not_above(drop: float, limit: float) -> None:
    found = check_drop(validation_result(drop_pp=drop), Gates(max_drop_pp=limit))
    assert found.passed is not (drop > limit)
    assert (found.measured, found.limit) == (drop, limit)
    assert found.name == "accuracy drop on cpu"


def test_a_drop_of_exactly_the_limit_passes() -> None:
    assert check_drop(validation_result(drop_pp=1.0), Gates(max_drop_pp=1.0)).passed
    assert not check_drop(validation_result(drop_pp=1.0000001), Gates(max_drop_pp=1.0)).passed


def test_int8_that_gained_accuracy_passes_a_limit_of_zero() -> None:
    assert check_drop(validation_result(drop_pp=-0.5), Gates(max_drop_pp=0)).passed


@pytest.mark.parametrize(("word", "passed"), [("faster", True), ("same", False), ("slower", False)])
def test_only_faster_beyond_the_noise_passes_the_speedup(word: str, passed: bool) -> None:
    found = check_speedup(latency_result(word=word, speedup=(1.1, 1.05, 1.2)))
    assert found.passed is passed
    assert (found.measured, found.limit) == (1.05, 1.0)


def test_the_checks_of_one_target_have_names_of_their_own() -> None:
    names = {
        check_speedup(latency_result(target=target, batch=batch, threads=threads)).name
        for target in ("cpu", "xnnpack")
        for batch in (1, 8)
        for threads in (1, 2)
    }
    assert len(names) == 8


@given(size=st.integers(0, 10**9), limit=st.integers(1, 10**9))
def test_the_size_passes_up_to_the_limit(size: int, limit: int) -> None:
    assert check_size(size, limit).passed is (size <= limit)


def test_without_gates_only_the_drop_is_checked() -> None:
    names = [found.name for found in all_checks(fixed_manifest(), Gates())]
    assert names == ["accuracy drop on cpu"]


def test_every_gate_asked_for_is_checked() -> None:
    found = all_checks(fixed_manifest(), Gates(require_speedup=True, max_size_bytes=73_641))
    assert [(item.name, item.passed) for item in found] == [
        ("accuracy drop on cpu", True),
        ("speedup on cpu, batch 1, 1 threads", False),
        ("speedup on cpu, batch 8, 1 threads", True),
        ("speedup on cpu, batch 1, 1 threads, through iobinding", False),
        ("size of int8.onnx", False),
    ]


def test_checking_changes_nothing() -> None:
    manifest = fixed_manifest()
    before = copy.deepcopy(manifest)
    gates = Gates(require_speedup=True, max_size_bytes=1)
    assert all_checks(manifest, gates) == all_checks(manifest, gates)
    assert manifest == before


@given(st.lists(st.booleans()))
def test_a_verdict_passes_if_every_check_does(outcomes: list[bool]) -> None:
    verdict = Verdict(checks=tuple(check(str(index), passed=passed) for index, passed in enumerate(outcomes)))
    assert verdict.passed is (False not in outcomes)
    assert verdict.word == ("failed" if False in outcomes else "passed")
    assert verdict.exit_code == (1 if False in outcomes else 0)


def test_the_exit_codes_are_part_of_the_contract() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "PASSED": 0,
        "GATE_FAILED": 1,
        "USAGE": 2,
        "BAD_INPUT": 3,
        "STAGE_FAILED": 4,
        "TARGET_UNAVAILABLE": 5,
        "INTERRUPTED": 130,
    }


def test_merging_replaces_checks_of_the_same_name_and_keeps_the_others() -> None:
    old = (check("drop", measured=1), check("size", measured=2))
    new = (check("size", measured=3, passed=False), check("speedup", measured=4))
    merged = merge(old, new)
    assert [(item.name, item.measured) for item in merged] == [("drop", 1), ("size", 3), ("speedup", 4)]
    assert merge(merged, ()) == merged
    assert merge((), merged) == merged


@pytest.mark.parametrize("limit", [-0.001, 100.5, float("nan"), float("inf")])
def test_a_drop_limit_that_is_not_in_points_is_refused(limit: float) -> None:
    with pytest.raises(UsageError, match=r"--max-drop.*0 to 100; found") as caught:
        Gates(max_drop_pp=limit)
    assert caught.value.exit_code == 2
    assert caught.value.next_step


@pytest.mark.parametrize("limit", [0, -5])
def test_a_size_limit_of_nothing_is_refused(limit: int) -> None:
    with pytest.raises(UsageError, match=f"--max-size must be above 0, found {limit}"):
        Gates(max_size_bytes=limit)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("100kB", 100_000),
        ("1MiB", 1_048_576),
        ("1.5 KiB", 1536),
        ("73642", 73_642),
        ("2GB", 2 * 10**9),
        ("64kb", 64_000),
    ],
)
def test_sizes_are_read_with_their_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "big", "100 parsecs", "-5kB", "kB", "nan", "1e400", "0x10"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-size: expected a size such as 100kB or 1MiB, found") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    assert caught.value.next_step


def test_a_speedup_that_is_not_as_precise_as_asked_does_not_pass() -> None:
    fast = full_latency_result(verdict="faster")
    precision = fast.precision
    assert precision is not None
    assert not check_speedup(fast).passed
    assert check_speedup(full_latency_result(verdict="faster", precision=None)).passed
    met = precision.model_copy(update={"met": True})
    assert check_speedup(full_latency_result(verdict="faster", precision=met)).passed


def test_a_targets_own_model_is_held_to_the_same_gates_under_its_name() -> None:
    own = [one for one in all_checks(fitted_manifest(), Gates(max_drop_pp=0.4)) if one.name.endswith(".onnx")]
    assert [(one.name, one.measured, one.passed) for one in own] == [
        ("accuracy drop on qnn, int8-qnn.onnx", 0.4321, False)
    ]
    named = {one.name for one in all_checks(fitted_manifest(), Gates(require_speedup=True))}
    assert "speedup on qnn, batch 3, 1 threads, int8-qnn.onnx" in named
    assert "speedup on cpu, batch 1, 1 threads" in named
