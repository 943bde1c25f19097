"""What ``--for`` asks for: contradictions are said before anything is read."""

import pytest

from edgecnn.errors import ExitCode, UsageError
from edgecnn.pipeline.fit_plan import job_settings, plan_fit
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization import DEFAULT_RECIPE
from edgecnn.quantization.fit import FIT_MAX_DROP_PP, FITS

A8W8, A16W8 = FITS["qnn"].recipes


def test_each_provider_is_planned_once_in_the_order_asked_for() -> None:
    found = plan_fit(["qnn", "cpu@haswell", "cpu", "qnn"], QuantizeSettings())
    assert list(found) == ["qnn", "cpu"]
    assert found["qnn"] is FITS["qnn"]


@pytest.mark.parametrize(
    ("names", "settings", "anyway", "said", "next_step"),
    [
        (
            ["qnn"],
            {"recipe": "u8s8-perchannel-minmax"},
            False,
            "--recipe u8s8-perchannel-minmax is none of those that it takes: u8s8-.*-qoutput, u16s8-.*-qoutput",
            f"--recipe {A16W8}",
        ),
        (
            ["xnnpack", "qnn"],
            {"recipe": A16W8},
            False,
            "--for xnnpack chooses the recipe, --recipe u16s8.* is none of",
            "--recipe s8s8",
        ),
        (["coreml"], {"recipe": DEFAULT_RECIPE}, False, "ships float.onnx, which has no recipe", "leave out --recipe"),
        (["webgpu"], {"recipe": A16W8}, True, "is none of those that it takes: none", "leave out --recipe"),
        (["qnn"], {"recipe": A16W8, "max_drop_pp": 0.3}, False, "nothing for --max-drop to choose", "leave out"),
        (["any"], {"max_drop_pp": 0.3}, False, "one recipe for it, and nothing for --max-drop", "leave out --max-drop"),
        (["any"], {"n_held_out": 9}, False, "one recipe for it, and nothing for --held-out", "leave out --held-out"),
        (["webgpu"], {}, True, "--for webgpu: takes no int8: WebGPU computes in float", "ship float.onnx to webgpu"),
        (["xnnpack"], {}, True, "--for xnnpack: gets int8 without --anyway", "leave out --anyway"),
        ([], {}, True, "--anyway goes with --for", "--for coreml --anyway"),
        (["nonsense"], {}, False, "unknown target 'nonsense'", "--for any"),
    ],
)
def test_what_contradicts_itself_is_refused(
    names: list[str], settings: dict[str, object], anyway: bool, said: str, next_step: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        plan_fit(names, QuantizeSettings(**settings), anyway=anyway)  # type: ignore[arg-type]
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.next_step.startswith(next_step)


def test_a_budget_is_for_the_target_that_has_a_choice() -> None:
    settings = QuantizeSettings(max_drop_pp=0.7, n_held_out=50, n_images=20, seed=3)
    found = plan_fit(["xnnpack", "qnn"], settings)
    assert job_settings(found["qnn"], settings) == settings
    assert job_settings(found["xnnpack"], settings) == QuantizeSettings(n_images=20, seed=3)


def test_the_budget_of_a_choice_has_a_default() -> None:
    assert job_settings(FITS["qnn"], QuantizeSettings()).max_drop_pp == FIT_MAX_DROP_PP
    assert job_settings(FITS["qnn"], QuantizeSettings(max_drop_pp=0)).max_drop_pp == 0
    assert job_settings(FITS["xnnpack"], QuantizeSettings()).max_drop_pp is None


def test_coreml_may_be_given_int8_anyway() -> None:
    assert list(plan_fit(["coreml"], QuantizeSettings(), anyway=True)) == ["coreml"]


@pytest.mark.parametrize("name", [A8W8, A16W8])
def test_one_of_a_rows_own_recipes_may_be_asked_for_and_is_not_judged(name: str) -> None:
    settings = QuantizeSettings(recipe=name, n_images=20)
    row = plan_fit(["qnn@sm8650"], settings)["qnn"]
    assert row.recipes == (name,)
    assert row.reason == FITS["qnn"].reason
    assert job_settings(row, settings).max_drop_pp is None
