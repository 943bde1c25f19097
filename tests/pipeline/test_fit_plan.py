"""What ``--for`` asks for: contradictions are said before anything is read."""

import pytest

from edgecnn.errors import ExitCode, UsageError
from edgecnn.pipeline.fit_plan import job_settings, plan_fit
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization.fit import FIT_MAX_DROP_PP, FITS


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
            "--for qnn chooses the recipe, --recipe u8s8",
            "leave one",
        ),
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
