"""Which recipe fits which target: every row can be made, and is what its reason says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import ExitCode, UsageError
from edgecnn.quantization import DEFAULT_RECIPE
from edgecnn.quantization.fit import FITS, Fit, fit_for
from edgecnn.targets import TARGETS

rows = pytest.mark.parametrize(("name", "row"), FITS.items(), ids=FITS)


@rows
def test_every_recipe_of_the_table_can_be_spelled(name: str, row: Fit) -> None:
    assert [one.name for one in row.candidates()] == list(row.recipes)
    assert row.reason
    assert row.reason == row.reason.strip().rstrip(".")
    assert row.recipes or row.ships_float, f"{name} would get nothing"


def test_every_target_has_a_row() -> None:
    assert {name.partition("@")[0] for name in TARGETS} <= FITS.keys()


@pytest.mark.parametrize("name", ["any", "cpu", "wasm", "openvino", "nnapi"])
def test_what_runs_like_a_cpu_has_the_default_and_that_is_right_on_every_cpu(name: str) -> None:
    assert FITS[name].is_default
    (only,) = FITS[name].candidates()
    assert only.name == DEFAULT_RECIPE
    assert only.exact_everywhere
    assert only.activation == "u8"


def test_xnnpack_gets_signed_integers_with_a_scale_a_channel() -> None:
    (only,) = FITS["xnnpack"].candidates()
    assert (only.activation, only.weight, only.per_channel, only.qoperator) == ("s8", "s8", True, False)
    assert not FITS["xnnpack"].is_default


def test_qnn_has_8_bits_before_16_and_rounds_the_answer() -> None:
    first, second = FITS["qnn"].candidates()
    assert (first.activation, second.activation) == ("u8", "u16")
    assert first.per_channel
    assert second.per_channel
    assert first.quantized_output, "a last layer between no two quantizations runs on the CPU"
    assert second.quantized_output


@pytest.mark.parametrize("name", ["coreml", "webgpu"])
def test_what_computes_in_float_ships_float(name: str) -> None:
    assert FITS[name].ships_float
    assert not FITS[name].is_default


@pytest.mark.parametrize("name", ["cpu@haswell", "cpu@cortex-a53", "cpu@cortex-a76"])
def test_a_machine_has_the_row_of_its_provider(name: str) -> None:
    assert fit_for(name) == ("cpu", FITS["cpu"])


@given(name=st.text(max_size=20).filter(lambda text: text not in FITS and text not in TARGETS))
def test_an_unknown_target_lists_the_known_ones(name: str) -> None:
    if "://" in name:
        return
    with pytest.raises(UsageError, match=r"unknown target .*; known: any, cpu, ") as caught:
        fit_for(name)
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.next_step == "--for any"


def test_a_machine_that_no_target_names_is_unknown() -> None:
    with pytest.raises(UsageError, match="unknown target 'cpu@pentium'"):
        fit_for("cpu@pentium")


def test_a_target_without_a_row_says_which_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "tpu", TARGETS["cpu"])
    with pytest.raises(UsageError, match="--for tpu: no recipe is known for it; known: any, cpu"):
        fit_for("tpu")
