"""Two models compared by a clock that only they move."""

import gc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.bundle.latency import MAX_PAIRS
from edgecnn.bundle.manifest import Speedup
from edgecnn.errors import UsageError
from edgecnn.measure import latency, turns
from edgecnn.measure.latency import BenchSettings, PairedLatency, compare_latency, judge
from edgecnn.measure.turns import Opener
from edgecnn.measure.warmup import Warmup
from edgecnn.progress import SILENT
from tests.clockwork import Machine, Model, both, steady, take_over
from tests.support import make_images

PIXELS = make_images(6, size=4).pixels
#: Calls of a session of 100 us before its first block: the first one, then one and three blocks of ten to settle.
WARM = 32


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return take_over(monkeypatch)


def bench(open_float: Opener, open_int8: Opener, **chosen: float) -> PairedLatency:
    """Measure in blocks of a millisecond, unless told otherwise."""
    wanted = {"pairs": 6, "rounds": 4, "seconds": 0.048, "warmup": 3, **chosen}
    return compare_latency(open_float, open_int8, PIXELS, BenchSettings(**wanted), SILENT)  # type: ignore[arg-type]


# The verdict


@pytest.mark.parametrize(
    ("float_us", "int8_us", "ratio", "verdict"),
    [
        (200, 100, 2.0, "faster"),
        (100, 100, 1.0, "same"),
        (100, 200, 0.5, "slower"),
        (100, 99, 100 / 99, "faster"),
        (100, 101, 100 / 101, "slower"),
    ],
)
def test_a_steady_difference_is_found_exactly(
    machine: Machine, float_us: float, int8_us: float, ratio: float, verdict: str
) -> None:
    paired = bench(steady(machine, "float", float_us), steady(machine, "int8", int8_us))
    assert paired.verdict == verdict
    for end in (paired.speedup.median, paired.speedup.low, paired.speedup.high):
        assert end == pytest.approx(ratio, rel=1e-12)
    for found, us in ((paired.float_latency, float_us), (paired.int8_latency, int8_us)):
        assert (found.p50_us, found.p90_us, found.p99_us) == (us, us, us)


def test_a_machine_that_slows_down_slows_both_and_changes_nothing(machine: Machine) -> None:
    def drifting(us: int) -> Callable[[int, int], float]:
        return lambda session, call: us * (1 + machine.now_ns / 3e8)

    paired = bench(
        Model(machine, "float", drifting(200)),
        Model(machine, "int8", drifting(100)),
        pairs=20,
        rounds=5,
        seconds=0.3,
        warmup=0,
    )
    assert paired.float_latency.p99_us > 400  # the last rounds are more than twice as slow as the first
    assert paired.speedup.median == pytest.approx(2, rel=0.02)
    assert paired.verdict == "faster"


def test_a_few_calls_that_take_very_long_do_not_change_the_ratio(machine: Machine) -> None:
    def hiccups(session: int, call: int) -> float:
        return 90_000 if call % 10 == 7 else 100

    paired = bench(Model(machine, "float", hiccups), steady(machine, "int8", 50))
    assert paired.speedup.median == pytest.approx(2)
    assert paired.verdict == "faster"
    assert paired.float_latency.p99_us == 90_000


def test_the_interval_is_over_the_pairs(machine: Machine) -> None:
    ratios = [1.3, 0.9, 1.1, 1.2, 0.8, 1.05, 1.4, 1.25, 0.95, 1.15]
    open_int8 = Model(machine, "int8", lambda session, call: 100_000 / ratios[session])
    paired = bench(steady(machine, "float", 100_000), open_int8, pairs=10)
    # Of ten pairs, the second and the ninth hold the median between them in 97.9% of cases.
    assert paired.speedup.low == pytest.approx(0.9)
    assert paired.speedup.high == pytest.approx(1.3)
    assert paired.speedup.median == pytest.approx(1.125)
    assert paired.verdict == "same"


def test_more_rounds_of_the_same_pairs_do_not_make_them_more_certain(machine: Machine) -> None:
    def lucky(session: int, call: int) -> float:
        return 95 if session == 0 else 101

    few, many = (
        bench(steady(machine, "float", 100), Model(machine, "int8", lucky), rounds=rounds, seconds=0.012 * rounds)
        for rounds in (1, 40)
    )
    assert few.speedup == many.speedup
    assert few.verdict == many.verdict == "same"


def test_a_round_that_was_disturbed_does_not_change_its_pairs_ratio(machine: Machine) -> None:
    def disturbed(session: int, call: int) -> float:
        return 700 if WARM + 10 <= call < WARM + 20 else 100  # the second of five blocks

    paired = bench(steady(machine, "float", 100), Model(machine, "int8", disturbed), rounds=5, seconds=0.06, warmup=0)
    assert (paired.speedup.low, paired.speedup.high) == (1, 1)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_difference_counts_only_if_the_whole_interval_is_on_one_side(a: float, b: float, c: float) -> None:
    low, median, high = sorted((a, b, c))
    verdict = judge(Speedup(median=median, low=low, high=high))
    assert (verdict == "faster") == all(end > 1 for end in (low, high))
    assert (verdict == "slower") == all(end < 1 for end in (low, high))


def test_an_interval_that_ends_at_one_is_no_difference() -> None:
    assert judge(Speedup(median=1.1, low=1.0, high=1.2)) == "same"
    assert judge(Speedup(median=0.9, low=0.8, high=1.0)) == "same"


# Which calls count


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    pairs=st.integers(6, 8),
    rounds=st.integers(1, 4),
    warmup=st.integers(0, 6),
    seconds=st.floats(0.001, 0.05),
    batch=st.integers(1, 9),
)
def test_figures_are_those_of_numpy_over_the_calls_after_each_warm_up(
    seed: int, pairs: int, rounds: int, warmup: int, seconds: float, batch: int
) -> None:
    random = np.random.default_rng(seed)
    starts: dict[str, list[int]] = {"float": [], "int8": []}
    with pytest.MonkeyPatch.context() as patch:
        machine = take_over(patch)
        # how a session settles is another test's; here it is known to take no call
        patch.setattr(turns, "warm_up", lambda call: Warmup(calls=0, settled=True, call_us=100.0))

        def model(name: str) -> Model:
            def took_us(session: int, call: int) -> float:
                if call == 0:
                    starts[name].append(sum(who == name for who, _ in machine.log))
                return float(random.integers(20, 300))

            return Model(machine, name, took_us)

        paired = bench(
            model("float"), model("int8"), pairs=pairs, rounds=rounds, warmup=warmup, seconds=seconds, batch=batch
        )
    ratios = np.ones(pairs)
    for name, found, power in (("float", paired.of_float, 1), ("int8", paired.of_int8, -1)):
        took = np.array([ns for who, ns in machine.log if who == name]) / 1000
        timed, medians = [], []
        for calls_of_session in np.split(took, starts[name][1:]):
            calls = max(3, int(seconds * 1e6 / pairs / rounds / 2 / 100))
            blocks = calls_of_session[1:].reshape(rounds, warmup + calls)[:, warmup:]
            medians.append(np.median(np.median(blocks, axis=1)))
            timed.append(blocks.ravel())
        np.testing.assert_allclose(found.medians_us, medians, rtol=1e-12)
        ratios *= np.array(medians) ** power
        together = np.concatenate(timed)
        figures = found.latency
        assert figures.n == together.size
        assert figures.max_us is not None
        expected = np.percentile(together, [50, 90, 99, 100])
        np.testing.assert_allclose([figures.p50_us, figures.p90_us, figures.p99_us, figures.max_us], expected)
        assert figures.images_per_second == pytest.approx(batch * together.size / together.sum() * 1e6)
    assert paired.speedup.median == pytest.approx(np.median(ratios))
    assert ratios.min() <= paired.speedup.low * (1 + 1e-9)
    assert paired.speedup.high <= ratios.max() * (1 + 1e-9)


def test_opening_and_the_first_call_are_medians_over_the_sessions(machine: Machine) -> None:
    def slow_at_first(session: int, call: int) -> float:
        return (1000 if session < 5 else 9000) if call == 0 else 100

    paired = bench(
        Model(machine, "float", slow_at_first, load_us=70), Model(machine, "int8", lambda s, c: 50, load_us=30), pairs=9
    )
    assert (paired.of_float.load_us, paired.of_int8.load_us) == (70, 30)
    assert (paired.of_float.first_us, paired.of_int8.first_us) == (1000, 50)
    assert paired.float_latency.max_us == 100


def test_sessions_that_never_settle_are_counted(machine: Machine) -> None:
    paired = bench(
        Model(machine, "float", lambda s, c: 100 * 1.01**c if s in (1, 4) else 100), steady(machine, "int8", 100)
    )
    assert (paired.of_float.unsettled, paired.of_int8.unsettled) == (2, 0)


# Until the interval is narrow


def noisy(machine: Machine, name: str, seed: int, sigma: float, us: float = 1e5) -> Model:
    random = np.random.default_rng(seed)
    factors = np.exp(random.normal(0, sigma, 2000))
    return Model(machine, name, lambda session, call: us * factors[session])


def test_pairs_are_added_until_the_interval_is_as_narrow_as_asked(machine: Machine) -> None:
    models = noisy(machine, "float", 1, 0.03), noisy(machine, "int8", 2, 0.03)
    paired = bench(*models, pairs=10, rounds=1, seconds=0.001, until=0.02, max_seconds=1e6)
    assert paired.precision is not None
    assert (paired.precision.met, paired.precision.asked) == (True, 0.02)
    assert paired.precision.found == pytest.approx((paired.speedup.high - paired.speedup.low) / paired.speedup.median)
    assert paired.precision.found <= 0.02
    assert paired.pairs in (15, 23, 35, 53, 80, 120, 180), "the looks are far apart"
    assert paired.pairs == len(paired.of_int8.medians_us) == models[0].opened
    plain = bench(noisy(machine, "float", 1, 0.03), noisy(machine, "int8", 2, 0.03), pairs=10, rounds=1, seconds=0.001)
    assert plain.precision is None
    assert plain.pairs == 10
    assert plain.speedup.relative_width > 0.02


def test_an_interval_that_is_narrow_at_once_needs_no_more_pairs(machine: Machine) -> None:
    paired = bench(*both(machine), pairs=6, until=0.001)
    assert paired.pairs == 6
    assert paired.precision is not None
    assert paired.precision.met


def test_a_machine_too_noisy_is_given_up_when_the_time_is_over(machine: Machine) -> None:
    models = noisy(machine, "float", 1, 0.5), noisy(machine, "int8", 2, 0.5)
    paired = bench(*models, pairs=10, rounds=1, seconds=0.001, until=0.01, max_seconds=60)
    assert paired.precision is not None
    assert not paired.precision.met
    assert paired.precision.found > 0.01
    assert 60e9 <= machine.now_ns < 66e9  # one pair takes about three seconds


def test_the_time_limit_leaves_enough_pairs_for_an_interval(machine: Machine) -> None:
    paired = bench(
        noisy(machine, "float", 1, 0.5), noisy(machine, "int8", 2, 0.5), pairs=20, until=0.01, max_seconds=1e-3
    )
    assert paired.pairs == 6


def test_there_is_an_end_to_the_pairs(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PAIRS == 1000
    monkeypatch.setattr(latency, "MAX_PAIRS", 17)
    models = noisy(machine, "float", 1, 0.5), noisy(machine, "int8", 2, 0.5)
    paired = bench(*models, pairs=10, rounds=1, until=0.001, max_seconds=1e9)
    assert paired.pairs == 17
    assert paired.precision is not None
    assert not paired.precision.met


@pytest.mark.parametrize("until", [None, 0.03])
def test_the_interval_covers_the_true_ratio_as_often_as_it_says(machine: Machine, until: float | None) -> None:
    """Seeded: 250 measurements of models whose sessions differ by two percent, the true ratio being 2."""
    covered, pairs = 0, []
    for seed in range(250):
        models = noisy(machine, "float", 2 * seed, 0.02, 2e5), noisy(machine, "int8", 2 * seed + 1, 0.02)
        wanted = BenchSettings(pairs=10, rounds=1, seconds=1e-3, warmup=1, until=until, max_seconds=1e9)
        paired = compare_latency(*models, PIXELS, wanted, SILENT)
        covered += paired.speedup.low <= 2 <= paired.speedup.high
        pairs.append(paired.pairs)
    assert 0.92 <= covered / 250 <= 0.995
    assert (max(pairs) > 10) == (until is not None)


# In turns


def test_a_listener_and_a_watch_hear_each_pair(machine: Machine) -> None:
    heard: list[tuple[str, int, int]] = []

    class Listener:
        def say(self, text: str) -> None:
            raise AssertionError(text)

        def update(self, task: str, done: int, total: int, detail: str = "") -> None:
            heard.append((task, done, total))

    watched: list[int] = []
    compare_latency(
        *both(machine),
        PIXELS,
        BenchSettings(pairs=6, seconds=0.01),
        Listener(),
        between=lambda: watched.append(len(heard)),
    )
    assert heard == [("bench", done, 6) for done in range(1, 7)]
    assert watched == [0, 1, 2, 3, 4, 5]


def test_each_pair_is_opened_anew_when_the_one_before_is_closed(machine: Machine) -> None:
    models = both(machine)
    bench(*models, pairs=7)
    assert [model.opened for model in models] == [7, 7]
    assert [model.most_alive for model in models] == [1, 1]


@pytest.mark.parametrize("fixed", ["float", "int8"])
def test_another_batch_than_the_fixed_one_is_refused_before_anything_runs(machine: Machine, fixed: str) -> None:
    models = [
        Model(machine, name, lambda session, call: 100, batch=8 if name == fixed else "N") for name in ("float", "int8")
    ]
    with pytest.raises(UsageError, match="fixed batch 8; --batch 2 cannot be measured") as caught:
        bench(*models, batch=2)
    assert caught.value.next_step.startswith("--batch 8")
    assert not machine.log


# The process


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_meanwhile_and_afterwards_it_is_as_before(machine: Machine, enabled: bool) -> None:
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        models = both(machine)
        bench(*models)
        assert models[0].collecting == models[1].collecting == {False}
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_garbage_is_collected_again_after_a_failure(machine: Machine) -> None:
    def fails(session: int, call: int) -> float:
        assert not gc.isenabled()
        raise RuntimeError("no more")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="no more"):
        bench(Model(machine, "float", fails), steady(machine, "int8", 100))
    assert gc.isenabled()
