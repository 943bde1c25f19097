"""From where to where values look: arithmetic on intervals, against lists of what each value sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.graph import span as spans
from edgecnn.graph.window import Window


def window(kernel: int, stride: int, before: int, after: int, dilation: int, *, transposed: bool = False) -> Window:
    return Window(
        kernel=(kernel,), stride=(stride,), pads_before=(before,), pads_after=(after,), dilation=(dilation,),
        groups=1, rounds_up=False, transposed=transposed, output_padding=(0,),
    )  # fmt: skip


def ends(span: spans.Span, length: int) -> list[tuple[int, int] | None]:
    """Return first and last position of each value along axis 2."""
    low, high = (np.broadcast_to(array, (1, 1, length)).reshape(-1) for array in (span.low, span.high))
    return [None if first > last else (int(first), int(last)) for first, last in zip(low, high, strict=True)]


@given(
    length=st.integers(1, 12),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    before=st.integers(0, 4),
    after=st.integers(0, 4),
    dilation=st.integers(1, 3),
)
def test_a_window_sees_the_positions_under_its_taps(
    length: int, kernel: int, stride: int, before: int, after: int, dilation: int
) -> None:
    output = (length + before + after - dilation * (kernel - 1) - 1) // stride + 1
    if output < 1:
        return
    expected: list[tuple[int, int] | None] = []
    for index in range(output):
        taps = [index * stride - before + tap * dilation for tap in range(kernel)]
        under = [tap for tap in taps if 0 <= tap < length]
        expected.append((under[0], under[-1]) if under else None)
    image = spans.of_image(3, 2, length)
    found = spans.slid(image, 2, 0, window(kernel, stride, before, after, dilation), length, output)
    assert ends(found, output) == expected


@given(
    length=st.integers(1, 8),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    before=st.integers(0, 3),
    dilation=st.integers(1, 3),
)
def test_a_window_that_runs_backwards_reaches_forwards(
    length: int, kernel: int, stride: int, before: int, dilation: int
) -> None:
    output = (length - 1) * stride + dilation * (kernel - 1) + 1 - before
    if output < 1:
        return
    reached: list[set[int]] = [set() for _ in range(output)]
    for source in range(length):
        for tap in range(kernel):
            place = source * stride - before + tap * dilation
            if 0 <= place < output:
                reached[place].add(source)
    image = spans.of_image(3, 2, length)
    found = spans.slid(image, 2, 0, window(kernel, stride, before, 0, dilation, transposed=True), length, output)
    assert ends(found, output) == [(min(sources), max(sources)) if sources else None for sources in reached]


def test_a_window_that_runs_backwards_over_a_mirrored_image_sees_from_the_least_to_the_most() -> None:
    image = spans.of_image(3, 2, 3)
    mirrored = spans.taken(image, 2, 3, np.array([2, 1, 0]))
    found = spans.slid(mirrored, 2, 0, window(2, 1, 0, 0, 1, transposed=True), 3, 4)
    assert ends(found, 4) == [(2, 2), (1, 2), (0, 1), (0, 0)]


@pytest.mark.parametrize(("pads", "blind"), [((2, 0), [0]), ((0, 2), [4]), ((1, 1), [])], ids=str)
def test_a_window_with_nothing_but_padding_under_it_sees_nothing_of_the_other_axis_either(
    pads: tuple[int, int], blind: list[int]
) -> None:
    columns = spans.of_image(4, 3, 5)  # all rows see the same
    found = spans.slid(columns, 2, 0, window(2, 1, *pads, 1), 4, 5)
    sizes = np.broadcast_to(found.high >= found.low, (1, 1, 5, 5)).all((0, 1, 3))
    assert np.flatnonzero(~sizes).tolist() == blind


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_padding_sees_nothing_or_what_it_copies(mode: str) -> None:
    copied: dict[str, list[tuple[int, int] | None]] = {
        "constant": [None, None],
        "edge": [(0, 0), (0, 0)],
        "reflect": [(2, 2), (1, 1)],
    }
    found = spans.padded(spans.of_image(3, 2, 4), 2, 4, 2, 0, mode)
    assert ends(found, 6) == [*copied[mode], (0, 0), (1, 1), (2, 2), (3, 3)]


def test_channels_mix_within_their_group_only() -> None:
    low = np.arange(4, dtype=np.int32).reshape(1, 4, 1)
    found = spans.mixed_channels(spans.Span(low, low + 1), 4, 2, 6)
    assert found.low.reshape(-1).tolist() == [0, 0, 0, 2, 2, 2]
    assert found.high.reshape(-1).tolist() == [2, 2, 2, 4, 4, 4]
    assert spans.mixed_channels(spans.Span(low, low + 1), 4, 1, 6).size == 5


def test_a_rearrangement_keeps_each_values_sight() -> None:
    image = spans.of_image(4, 2, 3)
    flat = spans.rearranged(image, (1, 2, 3, 2), (1, 12))
    assert flat.low.reshape(-1).tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert spans.rearranged(flat, (1, 12), (1, 2, 3, 2)).low.shape == (1, 1, 3, 1)  # kept once where all are the same


def test_the_size_is_that_of_the_value_that_sees_most_and_nothing_is_zero() -> None:
    low, high = np.array([3, 5], np.int32), np.array([4, 9], np.int32)
    assert spans.Span(low, high).size == 5
    assert spans.nothing(3).size == 0
    assert spans.merged([spans.nothing(1), spans.Span(low, high)]).size == 5


@pytest.mark.parametrize(
    "ask",
    [
        lambda image: spans.of_image(3, 2, 2**40),
        lambda image: spans.padded(image, 2, 4, 2**40, 0),
        lambda image: spans.slid(image, 2, 0, window(2**30, 1, 2**29, 2**29, 1), 4, 5),
        lambda image: spans.rearranged(image, (1, 2**20, 2**20), (1, 2**40)),
        lambda image: spans.concatenated([image, image], [4, 2**40], 2),
    ],
    ids=["image", "padding", "kernel", "reshape", "concat"],
)
def test_nothing_is_made_that_does_not_fit_memory(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(spans.TooLargeError):
        ask(spans.of_image(3, 2, 4))
