"""Figures of targets' own models go into the records of these models, and no other figure moves."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgecnn.bundle.latency import LatencyResult
from edgecnn.bundle.manifest import FittedRecord, StageName, StageRecord, ValidationResult
from edgecnn.pipeline.fit_records import replaced, with_latency, with_validation, without_claim
from tests.bundles import NOON, fitted_record, latency_result, validation_result

QNN, XNNPACK = "int8-qnn.onnx", "int8-xnnpack.onnx"


def accuracy(target: str, model: str, drop: float = 0.0) -> ValidationResult:
    return validation_result(target=target, drop_pp=drop).model_copy(update={"int8_model": model})


def times(target: str, model: str, *, batch: int = 1, through: str = "run", pairs: int = 6) -> LatencyResult:
    update = {"int8_model": model, "through": through, "pairs": pairs}
    return latency_result(target=target, batch=batch).model_copy(update=update)


def drops(record: FittedRecord) -> dict[str, float]:
    assert len({one.target for one in record.validation}) == len(record.validation)
    return {one.target: one.drop_pp for one in record.validation}


def two_records() -> tuple[FittedRecord, FittedRecord]:
    return (
        fitted_record(validation=(accuracy("qnn", QNN, 1), accuracy("cpu", QNN, 2))),
        fitted_record(target="xnnpack", model=XNNPACK, validation=(accuracy("cpu", XNNPACK, 3),)),
    )


def test_new_accuracy_takes_the_place_of_the_old_of_its_model_and_target() -> None:
    asked = {"cpu": QNN, "webgpu": QNN}
    qnn, xnnpack = with_validation(two_records(), asked, [accuracy("cpu", QNN, 7), accuracy("webgpu", QNN, 8)])
    assert drops(qnn) == {"qnn": 1, "cpu": 7, "webgpu": 8}
    assert xnnpack == two_records()[1], "the same target's figures of another model"


def test_a_target_that_gave_no_figures_loses_its_old_ones_of_that_model_alone() -> None:
    qnn, xnnpack = with_validation(two_records(), {"cpu": XNNPACK, "qnn": QNN}, [])
    assert drops(qnn) == {"cpu": 2}
    assert drops(xnnpack) == {}


def test_figures_of_the_bundles_own_files_go_into_no_record() -> None:
    to_int8 = fitted_record(target="any", model="int8.onnx")
    records = (to_int8, *two_records())
    assert with_validation(records, {"cpu": "int8.onnx"}, [accuracy("cpu", "int8.onnx")]) == records
    assert with_latency(records, [times("cpu", "int8.onnx")]) == records


def test_new_latency_takes_the_place_of_the_old_and_other_places_stay() -> None:
    old = (times("cpu", QNN), times("cpu", QNN, batch=8), times("cpu", QNN, through="iobinding"))
    other = fitted_record(target="xnnpack", model=XNNPACK, latency=(times("cpu", XNNPACK),))
    qnn, xnnpack = with_latency((fitted_record(latency=old), other), [times("cpu", QNN, batch=8, pairs=99)])
    assert [(one.batch, one.through, one.pairs) for one in qnn.latency] == [
        (1, "run", 6),
        (1, "iobinding", 6),
        (8, "run", 99),
    ]
    assert xnnpack == other


_PLACES = list(itertools.product(("cpu", "xnnpack"), (1, 8), ("run", "iobinding")))
_chosen = st.lists(st.sampled_from(_PLACES), unique=True)


@given(old=_chosen, new=_chosen)
def test_every_place_is_held_once_and_the_newest_wins(
    old: list[tuple[str, int, str]], new: list[tuple[str, int, str]]
) -> None:
    def made(places: list[tuple[str, int, str]], pairs: int) -> list[LatencyResult]:
        return [times(target, QNN, batch=batch, through=way, pairs=pairs) for target, batch, way in places]

    found = {(one.target, one.batch, one.through): one.pairs for one in replaced(made(old, 6), iter(made(new, 7)))}
    assert found == dict.fromkeys(old, 6) | dict.fromkeys(new, 7)
    assert len(replaced(made(old, 6), made(new, 7))) == len(set(old) | set(new))


def stages(**settings: str) -> dict[StageName, StageRecord]:
    def record(**more: dict[str, str]) -> StageRecord:
        return StageRecord(inputs={}, settings={"targets": 1, **more}, outputs={}, finished_at=NOON, seconds=1)

    return {"validate": record(int8_models=dict(settings)) if settings else record(), "bench": record()}


def test_a_stage_whose_figures_of_an_own_model_were_replaced_is_not_done() -> None:
    known = stages(qnn=QNN)
    assert set(without_claim(known, "validate", {"cpu": QNN, "qnn": QNN})) == {"bench"}
    for asked in ({"cpu": QNN}, {"qnn": XNNPACK}):
        assert without_claim(known, "validate", asked) == known, "of these the stage says nothing"
    assert without_claim(known, "bench", {"qnn": QNN}) == known
    assert without_claim(stages(), "validate", {"qnn": QNN}) == stages()
    assert without_claim({}, "validate", {"qnn": QNN}) == {}
