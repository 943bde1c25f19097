"""Gates on targets: what a sample leaves in doubt, float's flips, int8's change, and whose figures decide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.bundle.manifest import Difference, ValidationResult
from edgecnn.errors import UsageError
from edgecnn.pipeline.verdict import Gates, accuracy_checks, all_checks, still_true
from edgecnn.targets import TARGETS
from tests.bundles import fitted_manifest, fitted_record, fixed_manifest, latency_result, validation_result

points = st.floats(-100, 100)
limits = st.floats(0, 100)


def there(
    *,
    flips: int = 0,
    change: tuple[float, float] | None = (-1.0, 1.0),
    drop: tuple[float, float] = (0.1, -0.4),
    sampled: bool = True,
    **changes: object,
) -> ValidationResult:
    """Return made-up accuracy on another target; ``drop`` is as measured, then the low end of its interval."""
    low, high = change or (None, None)
    of_int8 = Difference(argmax_flips=3, max_abs_logit_difference=0.5, top1_change_low_pp=low, top1_change_high_pp=high)
    return validation_result(target="qnn", drop_pp=drop[0]).model_copy(
        update={
            "drop_pp_low": drop[1],
            "n": 200,
            "n_available": 9001 if sampled else None,
            "float_against_cpu": Difference(argmax_flips=flips, max_abs_logit_difference=0.1),
            "int8_against_cpu": of_int8,
            **changes,
        }
    )


# Float.


@given(flips=st.integers(0, 50), limit=st.integers(0, 50))
def test_float_may_put_so_many_images_into_another_class_and_no_more(flips: int, limit: int) -> None:
    _, found, _ = accuracy_checks([there(flips=flips)], Gates(max_float_flips=limit))
    assert found.name == "float, classes changed on qnn"
    assert (found.measured, found.limit, found.unit) == (flips, limit, "images of 200, at most")
    assert found.passed is not (flips > limit)


def test_float_may_put_none_unless_someone_says_so() -> None:
    assert [one.passed for one in accuracy_checks([there(flips=1)], Gates())] == [True, False, True]


@pytest.mark.parametrize(("low", "passed"), [(0.29, True), (0.31, False)])
def test_float_in_16_bits_is_held_to_the_change_of_its_top1(low: float, passed: bool) -> None:
    against = Difference(argmax_flips=9, max_abs_logit_difference=0.1, top1_change_low_pp=low, top1_change_high_pp=5)
    half = there(float_against_cpu=against, float_bits=16)
    _, found, _ = accuracy_checks([half], Gates())
    assert (found.name, found.measured, found.passed) == ("float in 16 bits, change of top-1 on qnn", low, passed)
    _, found, _ = accuracy_checks([half], Gates(max_float_flips=8))
    assert (found.name, found.measured, found.passed) == ("float, classes changed on qnn", 9, False)


def test_only_later_htps_compute_float_in_16_bits() -> None:
    assert [name for name, row in TARGETS.items() if row.float_bits == 16] == ["qnn@sm8550", "qnn@sm8650", "qnn@sm8750"]


# The change of int8's top-1.


@given(ends=st.tuples(points, points).map(sorted), limit=limits)
def test_the_end_of_the_interval_that_is_nearer_to_no_change_decides(ends: list[float], limit: float) -> None:
    low, high = ends
    *_, found = accuracy_checks([there(change=(low, high))], Gates(max_target_change_pp=limit))
    sure = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    assert found.name == "int8, change of top-1 on qnn"
    assert (found.measured, found.limit) == (sure, limit)
    assert found.passed is not (sure > limit)


@pytest.mark.parametrize(
    ("ends", "passed"),
    [((0.31, 2.0), False), ((-2.0, -0.31), False), ((0.29, 2.0), True), ((-2.0, -0.29), True), ((-9.0, 9.0), True)],
)
def test_better_and_worse_than_here_are_both_a_change(ends: tuple[float, float], passed: bool) -> None:
    assert accuracy_checks([there(change=ends)], Gates())[-1].passed is passed


def test_figures_of_earlier_versions_have_no_interval_and_no_such_check() -> None:
    names = [one.name for one in accuracy_checks([there(change=None)], Gates())]
    assert names == ["accuracy drop on qnn", "float, classes changed on qnn"]


# The drop.


@given(drop=points, low=points, limit=limits)
def test_of_another_targets_sample_the_drop_counts_that_is_beyond_doubt(drop: float, low: float, limit: float) -> None:
    found, *_ = accuracy_checks([there(drop=(drop, low))], Gates(max_drop_pp=limit))
    assert found.measured == low
    assert found.passed is not (low > limit)
    assert "low end of 95%" in found.unit


@pytest.mark.parametrize(
    "result",
    [
        there(drop=(1.5, -3.0), sampled=False),
        there(drop=(1.5, -3.0), target="cpu", float_against_cpu=None, int8_against_cpu=None),
    ],
    ids=["all images of another target", "a sample on this CPU"],
)
def test_otherwise_the_drop_counts_as_it_was_measured(result: ValidationResult) -> None:
    found = accuracy_checks([result], Gates(max_drop_pp=1))[0]
    assert (found.measured, found.passed, found.unit) == (1.5, False, "points, at most")


def test_a_check_names_the_model_that_it_is_of_unless_it_is_int8_onnx() -> None:
    assert [one.name for one in accuracy_checks([there(int8_model="int8_portable.onnx")], Gates())] == [
        "accuracy drop on qnn, int8_portable.onnx",
        "float, classes changed on qnn",
        "int8, change of top-1 on qnn, int8_portable.onnx",
    ]


# What is refused.


@pytest.mark.parametrize("limit", [-0.001, 100.5, float("nan"), float("inf")])
def test_a_limit_of_change_that_is_not_in_points_is_refused(limit: float) -> None:
    with pytest.raises(UsageError, match=r"--max-change.*0 to 100; found") as caught:
        Gates(max_target_change_pp=limit)
    assert (caught.value.exit_code, caught.value.next_step) == (2, "--max-change 0.3")


def test_fewer_flips_than_none_are_refused() -> None:
    with pytest.raises(UsageError, match="--max-float-flips must not be below 0, found -1") as caught:
        Gates(max_float_flips=-1)
    assert (caught.value.exit_code, caught.value.next_step) == (2, "--max-float-flips 0")
    assert (Gates().max_float_flips, Gates().max_target_change_pp) == (None, 0.3)


# Whose figures decide a run.


def test_a_target_with_a_model_of_its_own_is_held_to_that_one() -> None:
    bad = validation_result(target="qnn@sm8550", drop_pp=50)
    manifest = fitted_manifest()
    manifest = manifest.model_copy(
        update={
            "validation": (*manifest.validation, bad),
            "latency": (*manifest.latency, latency_result(target="qnn", batch=77)),
        }
    )
    names = [one.name for one in all_checks(manifest, Gates(require_speedup=True))]
    assert "accuracy drop on qnn, int8-qnn.onnx" in names
    assert "accuracy drop on qnn@sm8550" not in names
    assert not any("batch 77" in name for name in names)
    bare = manifest.model_copy(update={"fitted": ()})
    names = [one.name for one in all_checks(bare, Gates(require_speedup=True))]
    assert "accuracy drop on qnn@sm8550" in names
    assert any("batch 77" in name for name in names)


def test_a_targets_own_model_is_judged_there_and_here_and_nowhere_else() -> None:
    own = {"int8_model": "int8-qnn.onnx"}
    asked = ("qnn@sm8750", "cpu", "cpu@haswell", "xnnpack")
    validation = tuple(validation_result(target=name).model_copy(update=own) for name in asked)
    latency = tuple(latency_result(target=name).model_copy(update=own) for name in ("qnn", "cpu"))
    record = fitted_record(validation=validation, latency=latency)
    manifest = fixed_manifest().model_copy(update={"fitted": (record,)})
    names = [one.name for one in all_checks(manifest, Gates(require_speedup=True)) if one.name.endswith("-qnn.onnx")]
    assert names == [
        "accuracy drop on qnn@sm8750, int8-qnn.onnx",
        "accuracy drop on cpu, int8-qnn.onnx",
        "speedup on qnn, batch 1, 1 threads, int8-qnn.onnx",
    ]


# Checks of figures that are gone.


def test_checks_go_with_the_figures_that_they_are_of_and_others_stay() -> None:
    old = there(int8_model="int8.onnx")
    new = there(int8_model="int8_portable.onnx")
    here, fast = validation_result(), latency_result(target="xnnpack")
    before = fixed_manifest().model_copy(update={"validation": (here, old), "latency": (fast,), "fitted": ()})
    gates = Gates(require_speedup=True, max_size_bytes=10**6)
    checks = all_checks(before, gates)
    assert len(checks) == 6
    assert still_true(checks, before, before) == checks
    after = before.model_copy(update={"validation": (here, new), "latency": ()})
    assert [one.name for one in still_true(checks, before, after)] == ["accuracy drop on cpu", "size of int8.onnx"]


def test_checks_of_a_targets_own_model_go_with_its_figures() -> None:
    before = fitted_manifest()
    checks = all_checks(before, Gates(require_speedup=True))
    (record,) = (one for one in before.fitted if one.is_own)
    after = before.model_copy(update={"fitted": (record.model_copy(update={"latency": ()}),)})
    gone = {one.name for one in checks} - {one.name for one in still_true(checks, before, after)}
    assert gone == {"speedup on qnn, batch 3, 1 threads, int8-qnn.onnx"}
