"""The page's warm-up and its softmax."""

import json

import numpy as np
import pytest
from scipy.stats import binom

from tests.web import WEB, answers_of, needs_node, node

pytestmark = needs_node
MODULE = WEB / "demo" / "classifier.mjs"


def test_softmax_is_that_of_numpy_and_does_not_overflow() -> None:
    for logits in ([1.0, 2.0, 3.0], [1000.0, 999.0], [-5.0]):
        (found,) = answers_of(MODULE, "softmax", [[logits]])
        powers = np.exp(np.array(logits) - max(logits))
        np.testing.assert_allclose(np.array(found, float), powers / powers.sum())


@pytest.mark.parametrize("rounds", [6, 10, 15, 40])
def test_the_interval_of_a_speed_up_is_that_of_the_sign_test(rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    of_float, of_int8 = rng.random(rounds) + 1, rng.random(rounds) + 1
    (found,) = answers_of(MODULE, "speedup", [[of_float.tolist(), of_int8.tolist()]])
    ratios = np.sort(of_float / of_int8)
    k = int(binom.ppf(0.025, rounds, 0.5))  # the least with at most k of n coins in 2.5 % or more
    expected = {"rounds": rounds, "median": np.median(ratios), "low": ratios[k - 1], "high": ratios[rounds - k]}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "median", "high", "words"),
    [
        (1.2, 1.5, 1.8, "int8 is 1.50 times as fast as float (95 % interval 1.20 to 1.80)"),
        (0.5, 0.625, 0.8, "int8 takes 1.60 times as long as float (95 % interval 1.25 to 2.00)"),
        (0.9, 1.4, 1.5, "cannot be told from this measurement: int8 is 0.90 to 1.50 times as fast"),
    ],
)
def test_which_is_faster_is_said_only_where_the_interval_says_it(
    low: float, median: float, high: float, words: str
) -> None:
    (found,) = answers_of(MODULE, "compared", [[{"rounds": 10, "median": median, "low": low, "high": high}]])
    assert words in str(found)


def warmed_up(call_ms: str) -> tuple[float, float]:
    """Return what a call takes after the warm-up and how long that was, by a clock of its own; both in ms."""
    code = f"""
const {{ warmed_up_ms }} = await import({json.dumps(MODULE.as_uri())});
let now = 0;
const call_ms = (calls) => {call_ms};
const time_ms = async (calls) => {{ const took = calls * call_ms(calls); now += took; return took; }};
console.log(JSON.stringify([await warmed_up_ms(time_ms, async () => {{}}, () => now), now]));
"""
    found: tuple[float, float] = json.loads(node(code))
    return found


def test_it_ends_when_the_browser_has_compiled_the_code_well() -> None:
    call_ms, took_ms = warmed_up("now < 1900 ? 0.4 + now / 1000 : 0.15")
    assert call_ms == pytest.approx(0.15)
    assert 1900 < took_ms < 3500


def test_it_does_not_end_before_a_browser_can_have_done_so() -> None:
    call_ms, took_ms = warmed_up("now < 1200 ? 0.4 : 0.15")
    assert call_ms == pytest.approx(0.15)
    assert took_ms >= 1500


def test_one_that_never_settles_is_cut_off() -> None:
    _, took_ms = warmed_up("0.1 + (now % 97) / 97")
    assert 6000 <= took_ms < 8000
