"""Each convolution against its dense twin: what is timed, what is not, and that it is said."""

import pytest

from edgecnn.bundle.profile import Convolution, Timing
from edgecnn.measure.dense import compare_dense
from edgecnn.progress import SILENT


def layer(name: str, *, side: int = 4, bias: bool = True) -> Convolution:
    pair = (3, 3)
    return Convolution(
        name=name, batch=1, source=(3, side, side), output=(2, side - 2, side - 2), kernel=pair, stride=(1, 1),
        pads_before=(0, 0), pads_after=(0, 0), dilation=(1, 1), groups=1, bias=bias,
    )  # fmt: skip


class Fake:
    """Notes what it is asked to time."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def convolution(self, layer: Convolution) -> Timing:
        self.asked.append(f"{layer.name} conv")
        return Timing(median_us=2.0, iqr_us=0.1, blocks=10, calls=100)

    def dense(self, layer: Convolution) -> Timing:
        self.asked.append(f"{layer.name} dense")
        return Timing(median_us=50.0, iqr_us=1.0, blocks=10, calls=20)


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[int, int, str]] = []

    def say(self, text: str) -> None:
        raise AssertionError(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        assert task == "profile"
        self.told.append((done, total, detail))


def test_each_layer_is_timed_before_the_next_and_its_twin_right_after_it() -> None:
    fake, listener = Fake(), Listener()
    found = compare_dense([layer("a"), layer("b")], fake, max_bytes=10**6, progress=listener)
    assert fake.asked == ["a conv", "a dense", "b conv", "b dense"]
    assert listener.told == [(1, 2, "a"), (2, 2, "b")]
    assert [(row.layer.name, row.ratio, row.skipped) for row in found] == [("a", 25.0, None), ("b", 25.0, None)]


@pytest.mark.parametrize(("bias", "size"), [(True, 4 * (48 * 8 + 8)), (False, 4 * 48 * 8)])
def test_a_twin_of_exactly_the_memory_allowed_is_made_and_a_larger_one_is_not(bias: bool, size: int) -> None:
    one = layer("a", bias=bias)
    assert one.dense_bytes == size
    fake = Fake()
    (fits,) = compare_dense([one], fake, max_bytes=size, progress=SILENT)
    (skipped,) = compare_dense([one], fake, max_bytes=size - 1, progress=SILENT)
    assert fits.dense is not None
    assert (skipped.dense, skipped.ratio) == (None, None)
    assert skipped.skipped == f"its weights take {size} bytes, above {size - 1}"
    assert fake.asked == ["a conv", "a dense", "a conv"]
