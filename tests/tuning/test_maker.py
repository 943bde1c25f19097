"""Files made once and judged once; what does not fit is refused with its reason, and no other error is swallowed."""

import pytest

from edgecnn.errors import DataError, ModelError
from edgecnn.quantization.recipes import Recipe, recipe
from edgecnn.quantization.static import Quantized
from edgecnn.tuning.candidate import STOCK, Candidate
from edgecnn.tuning.maker import Made, Refused
from tests.tuning.fakes import MODEL, FakeJudge, FakeRewriter, make_maker, quantize

INT8 = recipe("u8s8-perchannel-minmax-reduced")
REWRITTEN = Candidate(recipe=INT8, rewrites=("blocked",))


def made(found: Made | Refused) -> Made:
    assert isinstance(found, Made), found
    return found


def refused(found: Made | Refused) -> str:
    assert isinstance(found, Refused), found
    return found.reason


def test_the_stock_model_is_the_file_itself_and_loses_nothing() -> None:
    found = made(make_maker().make(STOCK))
    assert found.data == MODEL
    assert found.drop_pp is not None
    assert found.drop_pp.delta == 0


def test_the_drop_is_in_percentage_points_against_the_stock_model() -> None:
    found = made(make_maker(FakeJudge({INT8.name: 30})).make(Candidate(recipe=INT8)))
    assert found.drop_pp is not None
    assert found.drop_pp.delta == pytest.approx(1.5)
    assert found.drop_pp.low < 1.5 < found.drop_pp.high


def test_a_recipe_is_quantized_and_judged_once_however_it_is_opened() -> None:
    asked: list[Recipe] = []

    def once(one: Recipe) -> Quantized:
        asked.append(one)
        return quantize(one)

    judge = FakeJudge()
    maker = make_maker(judge, quantizer=once)
    for candidate in (Candidate(recipe=INT8), Candidate(recipe=INT8, session="no-arena"), REWRITTEN):
        maker.make(candidate)
    assert asked == [INT8]
    assert len(judge.asked) == 2, "the plain file and the rewritten one"


def test_what_is_only_timed_is_not_judged() -> None:
    judge = FakeJudge()
    assert made(make_maker(judge).make(Candidate(recipe=INT8), judged=False)).drop_pp is None
    assert judge.asked == []


@pytest.mark.parametrize(("flips", "fits"), [(0, True), (2, True), (3, False)])
def test_a_rewrite_may_put_one_image_in_a_thousand_into_another_class(flips: int, fits: bool) -> None:
    maker = make_maker(FakeJudge(wrong_rewritten={"blocked": flips}))
    found = maker.make(REWRITTEN)
    if fits:
        assert made(found).candidate == REWRITTEN
    else:
        assert refused(found) == (
            "rewritten, it puts 3 of 2,000 images into another class (logits differ by up to 1); at most 0.1% may"
        )


def test_a_rewrite_is_held_against_int8_as_it_was_and_not_against_float() -> None:
    maker = make_maker(FakeJudge({INT8.name: 100}))
    found = made(maker.make(REWRITTEN))
    assert found.drop_pp is not None
    assert found.drop_pp.delta == pytest.approx(5)


def test_rewrites_that_find_no_place_are_refused_with_their_reason() -> None:
    maker = make_maker(rewriter=FakeRewriter(useless=("blocked",)))
    assert refused(maker.make(REWRITTEN)) == "no rewrite applies: no place"


def test_a_recipe_that_does_not_fit_the_network_is_refused_with_its_message() -> None:
    def too_old(_: Recipe) -> Quantized:
        raise ModelError("is of opset 9", next_step="export it anew")

    assert refused(make_maker(quantizer=too_old).make(Candidate(recipe=INT8))) == "is of opset 9"


def test_other_errors_end_the_tuning() -> None:
    def no_images(_: Recipe) -> Quantized:
        raise DataError("no images", next_step="give some")

    with pytest.raises(DataError, match="no images"):
        make_maker(quantizer=no_images).make(Candidate(recipe=INT8))


def test_plans_leave_out_the_empty_one_and_know_the_form() -> None:
    maker = make_maker(rewriter=FakeRewriter({"float": [("f",)], "int8": [("a", "b"), ("a",)]}))
    assert maker.plans(None) == (("f",),)
    assert maker.plans(INT8) == (("a", "b"), ("a",))


def test_layers_that_stayed_float_are_told() -> None:
    import dataclasses

    left = dataclasses.replace(INT8, float_layers=("fc",))
    assert made(make_maker().make(Candidate(recipe=left))).float_layers == ("fc",)
    assert made(make_maker().make(STOCK)).float_layers == ()
