"""Any number of candidates in turns, by a clock that only they move."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.errors import UsageError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.measure.turns import bind, time_in_turns
from edgecnn.targets.session import Feed
from tests.clockwork import Fake, Machine, Model, steady, take_over
from tests.support import make_images

PIXELS = make_images(6, size=4).pixels
#: Calls of a session of 100 us before its first block: the first one, then one and three blocks of ten to settle.
WARM = 32


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return take_over(monkeypatch)


def settings(**chosen: int) -> BenchSettings:
    """Blocks of ten calls of 100 us, with three candidates in four rounds."""
    wanted = {"rounds": 4, "pairs": 10, "warmup": 2, **chosen}
    return BenchSettings(seconds=0.12, **wanted)  # type: ignore[arg-type]


def order_of(machine: Machine, names: str, *, seed: int = 0, rounds: int = 4) -> str:
    """Return the candidates of the blocks, in order."""
    machine.log.clear()
    openers = [steady(machine, name, 100) for name in names]
    time_in_turns(openers, PIXELS, settings(rounds=rounds), np.random.default_rng(seed))
    blocks = [who for who, _ in machine.log][WARM * len(names) :]
    calls = 2 + max(3, int(0.12e6 / 10 / rounds / len(names) / 100))
    assert len(blocks) == rounds * len(names) * calls
    assert all(len(set(blocks[first : first + calls])) == 1 for first in range(0, len(blocks), calls))
    return "".join(blocks[::calls])


@pytest.mark.parametrize("names", ["a", "ab", "abc", "abcde"])
def test_each_round_is_one_block_of_each_candidate(machine: Machine, names: str) -> None:
    order = order_of(machine, names)
    rounds = [order[begin : begin + len(names)] for begin in range(0, len(order), len(names))]
    assert len(rounds) == 4
    assert all(sorted(each) == sorted(names) for each in rounds)


def test_the_order_changes_from_round_to_round_by_the_seed(machine: Machine) -> None:
    order = order_of(machine, "ab", rounds=40)
    rounds = [order[begin : begin + 2] for begin in range(0, 80, 2)]
    assert 10 < rounds.count("ab") < 30
    first, again, other = (order_of(machine, "abc", seed=seed, rounds=20) for seed in (1, 1, 2))
    assert first == again != other


def test_which_is_opened_and_warmed_up_first_changes_too(machine: Machine) -> None:
    order, opened = np.random.default_rng(0), []
    warmed = []

    class Noted(Model):
        def __call__(self) -> Fake:
            opened.append(self.name)
            return super().__call__()

    for _ in range(20):
        machine.log.clear()
        time_in_turns([Noted(machine, name, lambda s, c: 100) for name in "ab"], PIXELS, settings(rounds=1), order)
        warmed.append(machine.log[0][0])
    assert 3 < opened[::2].count("a") < 17
    assert 3 < warmed.count("a") < 17


def test_each_candidate_gets_its_own_figures(machine: Machine) -> None:
    openers = [Model(machine, f"{us}", lambda s, c, us=us: us, load_us=us / 2) for us in (50, 100, 200)]  # type: ignore[misc]
    found = time_in_turns(openers, PIXELS, settings(), np.random.default_rng(0))
    assert [(each.median_us, each.first_us, each.load_us) for each in found] == [
        (50, 50, 25), (100, 100, 50), (200, 200, 100),
    ]  # fmt: skip
    assert [len(each.blocks) for each in found] == [4, 4, 4]
    assert [each.blocks[0].size for each in found] == [20, 10, 5]  # the same time for each


def test_one_disturbed_round_does_not_move_the_median(machine: Machine) -> None:
    def disturbed(session: int, call: int) -> float:
        return 900 if WARM + 26 <= call < WARM + 52 else 100  # the second of five blocks

    (found,) = time_in_turns([Model(machine, "x", disturbed)], PIXELS, settings(rounds=5), np.random.default_rng(0))
    assert 900 in {float(np.median(block)) for block in found.blocks}
    assert found.median_us == 100


def test_the_first_calls_after_another_candidate_are_not_counted(machine: Machine) -> None:
    def cold(name: str) -> Model:
        # Caches hold the other model's weights: three slow calls.
        return Model(machine, name, lambda s, c: 100 if [who for who, _ in machine.log[-3:]] == [name] * 3 else 5000)

    warm = time_in_turns([cold("a"), cold("b")], PIXELS, settings(warmup=3), np.random.default_rng(0))
    assert {float(block.max()) for each in warm for block in each.blocks} == {100}
    counted = time_in_turns([cold("a"), cold("b")], PIXELS, settings(warmup=2), np.random.default_rng(0))
    assert 5000 in {float(block.max()) for each in counted for block in each.blocks}


@pytest.mark.parametrize(("us", "uncounted"), [(100, 10), (1900, 10), (4000, 5), (50_000, 1)])
def test_the_longer_a_call_the_fewer_of_them_are_thrown_away(machine: Machine, us: int, uncounted: int) -> None:
    time_in_turns([steady(machine, "x", us)], PIXELS, settings(warmup=10, rounds=1), np.random.default_rng(0))
    settling = 1 + 1 + 3 * max(3, min(50, 1000 // us))
    timed = max(3, int(0.12e6 / 10 / us))
    assert len(machine.log) == settling + uncounted + timed


def test_a_block_is_at_least_three_calls_however_long_they_take(machine: Machine) -> None:
    (found,) = time_in_turns([steady(machine, "x", 2e6)], PIXELS, settings(rounds=2), np.random.default_rng(0))
    assert [block.size for block in found.blocks] == [3, 3]


@pytest.mark.parametrize("batch", [1, 4, 6, 20])
def test_all_are_fed_the_same_images_each_in_its_own_form(machine: Machine, batch: int) -> None:
    models = steady(machine, "float", 100), Model(machine, "int8", lambda s, c: 100, dtype="uint8")
    time_in_turns(models, PIXELS, settings(batch=batch), np.random.default_rng(0))
    expected = PIXELS[[index % 6 for index in range(batch)]].transpose(0, 3, 1, 2)
    for fed in models[1].fed:
        np.testing.assert_array_equal(fed, expected)
    for fed in models[0].fed:
        np.testing.assert_allclose(fed, expected / 255, rtol=1e-6)
    assert len({id(fed) for fed in models[0].fed}) == 1  # laid out once, outside the timing


def test_a_fixed_batch_that_is_asked_for_is_measured(machine: Machine) -> None:
    models = [Model(machine, name, lambda s, c: 100, batch=4) for name in "ab"]
    found = time_in_turns(models, PIXELS, settings(batch=4), np.random.default_rng(0))
    assert [each.median_us for each in found] == [100, 100]


def test_another_batch_than_the_fixed_one_is_refused_before_anything_runs(machine: Machine) -> None:
    models = [steady(machine, "a", 100), Model(machine, "b", lambda s, c: 100, batch=8)]
    with pytest.raises(UsageError, match="fixed batch 8; --batch 2 cannot be measured"):
        time_in_turns(models, PIXELS, settings(batch=2), np.random.default_rng(0))
    assert not machine.log


def test_what_is_bound_is_timed_in_place_of_run(machine: Machine) -> None:
    class Bindable(Fake):
        def bind(self, batch: Feed) -> object:
            assert batch.shape == (1, 3, 4, 4)
            return lambda: machine.pass_us(60)

    model = steady(machine, "x", 100)
    wanted = BenchSettings(through="iobinding", rounds=2, seconds=0.12)
    (found,) = time_in_turns([lambda: Bindable(model, 0)], PIXELS, wanted, np.random.default_rng(0))
    assert found.median_us == 60
    assert found.first_us == 100  # the first answer comes through run
    assert len(machine.log) == 1


def test_a_session_without_buffers_to_bind_is_refused(machine: Machine) -> None:
    batch: NDArray[np.float32] = np.zeros((1, 3, 4, 4), np.float32)
    with pytest.raises(UsageError, match="--through iobinding needs a session of the onnxruntime") as caught:
        bind(steady(machine, "x", 1)(), batch, "iobinding")
    assert caught.value.next_step == "--through run"
