"""Latency for the terminal: every figure of the records, and each disturbance in words."""

import io

import pytest
from rich.console import Console

from edgecnn.bundle.latency import Latency, Precision
from edgecnn.report import latency as text
from edgecnn.targets import TARGETS
from tests.bundles import full_latency_result, latency_result, noise, tiny_result
from tests.terminal import shown


def test_latency_is_shown_float_above_int8() -> None:
    lines = shown(text.latency_table([latency_result(batch=8, threads=2)])).splitlines()
    assert lines[-2:] == ["cpu 8 2 float 23.5 24.6 29.7", "int8 38.1 39.2 55.4 0.612 0.601..0.623"]


@pytest.mark.parametrize(
    ("word", "speedup", "sentence"),
    [
        ("faster", (1.5123, 1.4, 1.6), "cpu: int8 is 1.51 times as fast as float here."),
        ("same", (1.01, 0.98, 1.03), "cpu: int8 and float are equally fast here, within the noise."),
        (
            "slower",
            (0.5, 0.4, 0.6),
            "cpu: int8 is SLOWER than float here: it takes 2.00 times as long. Ship float on this target, "
            "unless the smaller file is what you need; edgecnn tune looks for a faster int8.",
        ),
    ],
)
def test_the_verdict_on_speed_is_a_sentence(word: str, speedup: tuple[float, float, float], sentence: str) -> None:
    assert text.latency_sentence(latency_result(word=word, speedup=speedup)).plain == sentence


def test_slower_is_red() -> None:
    assert "red" in str(text.latency_sentence(latency_result(word="slower")).style)


def test_what_was_called_otherwise_than_usual_is_said() -> None:
    lines = shown(text.latency_table([full_latency_result()])).splitlines()
    assert lines[-2:] == ["cpu, iobinding 1 1 float 22.6 23.7 28.8", "int8 37.1 38.2 54.4 0.612 0.601..0.623"]
    assert text.place(latency_result()) == "cpu"
    assert text.place(full_latency_result(batch=8, threads=2)) == "cpu, batch 8, 2 threads, iobinding"


def test_costs_are_shown_with_the_models_part_of_the_memory() -> None:
    lines = shown(text.cost_table([full_latency_result()])).splitlines()
    assert lines[-2:] == [
        "cpu, iobinding float 41,234 913 1.71 191 57.2 12.0 250,421",
        "int8 25,679 917 1.52 89 57.3 12.1 73,642",
    ]


def test_memory_that_the_system_does_not_tell_is_unknown() -> None:
    result = full_latency_result()
    assert result.float_startup is not None
    blind = result.float_startup.model_copy(update={"peak_memory_bytes": None, "runtime_memory_bytes": None})
    lines = shown(text.cost_table([full_latency_result(float_startup=blind)])).splitlines()
    assert lines[-2] == "cpu, iobinding float 41,234 913 1.71 191 unknown unknown 250,421"


def test_an_older_record_has_no_costs_and_no_noise() -> None:
    items = text.latency_items([latency_result()])
    assert len(items) == 2
    row = shown(text.cost_table([latency_result()])).splitlines()[-1]
    assert row == "int8"


def test_everything_known_of_a_result_is_shown() -> None:
    found = "\n".join(shown(item) for item in text.latency_items([full_latency_result()]))
    for words in (
        "too noisy to answer: the interval is 3.73% wide after 19 pairs; 2.11% was asked for, within 121.5 s.",
        "cpu, iobinding: machine: 5.3 s, same arithmetic varied by 3.4%, others took 2.3% and a hypervisor 1.2% of the "
        "CPU, switched out 31 times a second, 1 of 38 sessions not settled when their warm-up was cut off, "
        "trend -1.6% (p 0.42)",
        "cpu, iobinding: DISTURBED: the hypervisor took 1% of the CPU's time for others",
    ):
        assert words in found.replace("\n", " ")


def test_a_precision_that_was_reached_is_said() -> None:
    met = Precision(asked=0.02, found=0.0175, met=True, max_seconds=120)
    sentence = text.precision_sentence(full_latency_result(precision=met)).plain
    assert sentence == "cpu, iobinding: the interval is 1.75% wide after 19 pairs, as narrow as asked (2.00%)."
    assert text.precision_sentence(latency_result()).plain == ""


def test_noise_tells_what_is_known_and_no_more() -> None:
    quiet = noise().model_copy(
        update={"steal": None, "other_load": None, "involuntary_switches": None, "unsteady_sessions": 0}
    )
    assert text.noise_line(quiet) == "5.3 s, same arithmetic varied by 3.4%, trend -1.6% (p 0.42)"
    clocked = noise().model_copy(update={"frequency_low_mhz": 1999.6, "frequency_high_mhz": 3100.2})
    assert "2000 to 3100 MHz" in text.noise_line(clocked)


def test_a_strangers_warning_cannot_move_the_cursor() -> None:
    (_, item) = text.noise_items("cpu", noise(warnings=("\x1b[2Jgone\r\n",)))
    assert shown(item) == "cpu: DISTURBED: [2Jgone"


def test_a_protocol_is_shown_with_both_test_sets() -> None:
    lines = [line for item in text.protocol_items(tiny_result()) for line in shown(item).splitlines()]
    assert lines[0] == "MLPerf Tiny, median of 5 windows"
    assert "float 38,123.4 37,999.9 38,222.2 71.50% 72.45%" in lines
    assert "int8 24,123.4 23,999.9 24,222.2 70.00% 72.37%" in lines
    assert not any("NOT according" in line for line in lines)
    short = text.protocol_items(tiny_result(departures=("windows of 1 s",)))
    assert any("NOT according to the protocol: windows of 1 s." in shown(item) for item in short)


def test_latency_without_the_newer_figures_leaves_cells_empty() -> None:
    assert text._speed_cells(Latency(p50_us=1, p90_us=1, p99_us=1, n=1)) == ("", "")


def test_a_targets_own_model_is_named_beside_the_tables_and_breaks_none_of_them() -> None:
    name = max(TARGETS, key=len)
    result = full_latency_result(target=name, through="run", int8_model="int8-xnnpack.onnx")
    console = Console(file=io.StringIO(), width=80, markup=False, emoji=False, highlight=False)
    console.print(*text.latency_items([result, latency_result()]), sep="\n")
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert f"{name} 1 1 float 22.6 23.7 28.8" in lines
    assert lines.count("int8 37.1 38.2 54.4 0.612 0.601..0.623") == 1
    assert f"int8 is int8-xnnpack.onnx on {name}." in lines
    assert text.place(result) == f"{name}, int8-xnnpack.onnx"
    assert any(line.startswith(f"{name}, int8-xnnpack.onnx: int8 is SLOWER") for line in lines)
