"""``report.md``: every figure in it is a field of the manifest, and nothing in it can break out of its cell."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.bundle import Manifest
from edgecnn.bundle.manifest import ClassAccuracy
from edgecnn.report.markdown import cell, render
from tests.bundles import emulated_result, fixed_manifest, full_latency_result, read_manifest, validation_result
from tests.golden_files import assert_golden

CLASS = ClassAccuracy(name="cat", n=3, float_top1=1, int8_top1=1, drop_pp=0)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
#: What a figure may look like: the formats of the report, for a number and for a fraction shown as percent.
FORMATS = ("%d", "%g", "%.1f", "%.2f", "%+.2f", "%.3f", "%.4f", "%.0e", "%.1e", "%.2e")
#: Words of the template that hold digits.
FIXED = (
    "top-1", "int8", "p50 / p90 / p99", "95% interval", "SHA-256", "(2012)", "validation[0]",
    "x86 without VNNI", "exceed 16 bits", "-128", "-32768 to 32767", "u8s8-perchannel-minmax-reduced",
)  # fmt: skip


def leaves(value: object) -> list[object]:
    """Return every string and number of a JSON tree, the keys of its objects included."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in (key, *leaves(inner))]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


def lengths(value: object) -> set[str]:
    """Return how many entries each list and object of a JSON tree has."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {str(len(value))} if isinstance(value, list | dict) else set()
    return own.union(*(lengths(item) for item in inner))


def figures(tree: object) -> set[str]:
    """Return every number of a manifest as the report may show it."""
    numbers = [leaf for leaf in leaves(tree) if isinstance(leaf, int | float) and not isinstance(leaf, bool)]
    shown = {form % number for number in numbers for form in FORMATS}
    shown |= {str(number) for number in numbers} | {str(round(number, 4)) for number in numbers}
    return shown | {"%.2f" % (100 * number) for number in numbers}


def untraceable(report: str, manifest: Manifest) -> list[str]:
    """Return each number of a report that is not a figure of the manifest, nor within one of its texts."""
    tree = json.loads(manifest.model_dump_json())
    texts = [leaf for leaf in leaves(tree) if isinstance(leaf, str) and re.search(r"\d", leaf)]
    texts += [artifact.sha256[:16] for artifact in manifest.artifacts]
    texts += [artifact.parent_sha256[:16] for artifact in manifest.artifacts if artifact.parent_sha256]
    texts += [result.measured_at.isoformat() for result in manifest.latency]
    texts += [result.measured_at.isoformat() for result in manifest.validation]
    texts += [manifest.data.sha256[:16]] if manifest.data else []
    allowed = figures(tree) | lengths(tree)
    plain = report.replace("\\", "")
    # the longest first: a version is part of no other text, but a class may be called "1"
    for text in sorted({*texts, *FIXED}, key=len, reverse=True):
        if not NUMBER.fullmatch(text):
            plain = plain.replace(text, "~")
    texts_that_are_numbers = {text for text in texts if NUMBER.fullmatch(text)}
    return [number for number in NUMBER.findall(plain) if number not in allowed | texts_that_are_numbers]


def test_the_report_of_a_fixed_manifest_is_the_golden_one() -> None:
    assert_golden("report.md", render(fixed_manifest(), title="cats").decode())


def test_every_number_of_a_real_report_is_in_the_manifest(finished_bundle: Path) -> None:
    report = (finished_bundle / "report.md").read_text()
    assert len(NUMBER.findall(report)) > 150
    assert untraceable(report, read_manifest(finished_bundle)) == []


def test_every_number_of_the_golden_report_is_in_its_manifest() -> None:
    assert untraceable(render(fixed_manifest(), title="cats").decode(), fixed_manifest()) == []


def test_the_trace_sees_a_number_that_is_not_in_the_manifest(finished_bundle: Path) -> None:
    manifest, report = read_manifest(finished_bundle), (finished_bundle / "report.md").read_text()
    assert untraceable(report + "\n| 47.1347 |\n", manifest) == ["47.1347"]
    (found,) = manifest.validation
    moved = {name: getattr(found, name) / 2 + 0.001 for name in ("float_top1", "int8_top1")}
    wrong = found.model_copy(update=moved)
    assert untraceable(report, manifest.model_copy(update={"validation": (wrong,)})) != []


@pytest.mark.parametrize(
    "line",
    [
        "| cpu | 73.22% | 73.10% | +0.12 | -0.23 to +0.48 | 0.568 | 96.54% | 8123 |",
        "| cat | 4061 | 71.72% | 71.47% | +0.25 |",
        "| cpu | 1 | 1 | 23.5 / 24.6 / 29.7 | 38.1 / 39.2 / 55.4 | 0.612 | 0.601 to 0.623 | **SLOWER** |",
        "| cpu | 8 | 1 | 23.5 / 24.6 / 29.7 | 38.1 / 39.2 / 55.4 | 1.512 | 1.401 to 1.623 | faster |",
        "| size of int8.onnx | 73642 | 70000 bytes, at most | **failed** |",
        "| export | PyTorch | 67 | 1, 8 | 2.86e-06 | 3.4e-07 | 1e-04 | 3 |",
    ],
)
def test_figures_stand_in_their_columns(line: str) -> None:
    assert line in render(fixed_manifest(), title="cats").decode().splitlines()


def test_large_sizes_are_shown_to_the_byte() -> None:
    size = fixed_manifest().checks[1].model_copy(update={"measured": 12_345_678, "limit": 1_048_576})
    report = render(fixed_manifest().model_copy(update={"checks": (size,)}), title="cats").decode()
    assert "| size of int8.onnx | 12345678 | 1048576 bytes, at most | **failed** |" in report.splitlines()


@pytest.mark.parametrize(("passed", "word"), [((True, True), "**passed**"), ((True, False), "**FAILED**")])
def test_the_verdict_is_that_of_all_checks(passed: tuple[bool, bool], word: str) -> None:
    manifest = fixed_manifest()
    checks = [check.model_copy(update={"passed": one}) for check, one in zip(manifest.checks, passed, strict=True)]
    lines = render(manifest.model_copy(update={"checks": tuple(checks)}), title="cats").decode().splitlines()
    assert lines[2] == word


def test_an_empty_manifest_says_that_nothing_was_measured() -> None:
    report = render(Manifest(edgecnn_version="1.2.3"), title="empty").decode()
    assert "No gate was asked for yet." in report
    assert report.count("Not measured.") == 2
    assert report.endswith("Made by edgecnn 1.2.3.\n")


def test_rendering_changes_nothing_and_is_the_same_every_time() -> None:
    manifest = fixed_manifest()
    assert render(manifest, title="t") == render(manifest, title="t")
    assert manifest == fixed_manifest()


@given(st.text())
def test_a_cell_holds_one_line_and_no_markup(text: str) -> None:
    shown = cell(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>`*_\[\]]", shown)
    assert shown.isprintable()
    plain = re.sub(r"\\([\\`*_\[\]<>|])", r"\1", shown)
    assert plain == "".join(character for character in text if character.isprintable())


EVIL = "x|<img src=q>[a](b)`c`\n# d"


def replace_texts(value: object) -> object:
    """Put markup into every text of a manifest that the schema leaves free."""
    if isinstance(value, dict):
        return {key: replace_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [replace_texts(inner) for inner in value]
    return EVIL if value in FREE else value


FREE = {
    "simplecnn", "folder", "cats_and|dogs", "cat", "dog <b>", "RGB; resized to 32x32", "PyTorch", "2.15.0", "1.23.2",
    "1.32.0", "cpu", "Linux 6.1", "x86_64", "Example CPU @ 2.50GHz", "AVX2", "FMA3", "3.12.9", "points, at most",
    "accuracy drop on cpu", "9.8.7", "conv_1|x", "conv_2", "gate_1", "gate, too", "Conv", "Mul", "its input is float",
    "left in float on purpose", "fuse_bn", "logits differ by 0.5", "u8s8-pertensor-minmax",
    "u8s8-pertensor-minmax-1float", "u8s8-pertensor-minmax-2float", "u8s8-perchannel-mse-reduced",
}  # fmt: skip


def bars(report: str) -> set[int]:
    """Return how many bars the rows of the tables have."""
    return {len(re.findall(r"(?<!\\)\|", line)) for line in report.splitlines() if line.startswith("|")}


def test_no_text_of_a_stranger_becomes_markup() -> None:
    tree = replace_texts(json.loads(fixed_manifest().model_dump_json(by_alias=True)))
    report = render(Manifest.model_validate(tree), title=EVIL).decode()
    assert report.count("src=q") > 20
    assert not re.search(r"(?<!\\)<", report)
    assert "\n# d" not in report
    assert bars(report) == bars(render(fixed_manifest(), title="cats").decode())


def test_a_target_elsewhere_is_held_against_the_cpu_and_says_on_how_many_images() -> None:
    manifest = fixed_manifest().model_copy(update={"validation": (validation_result(), emulated_result())})
    report = render(manifest, title="cats").decode()
    assert "| cpu@haswell | emulated | 8123 | 13+0 | 37+0 | -0.07 | +3.21 | 7 | 0.012 | 2763 | 1.2 |" in report
    assert "| cpu | 8123 |" not in report
    assert "| 96.54% | 8123 of 9001 |" in report
    assert "| 96.54% | 8123 |" in report


def test_nothing_is_held_against_the_cpu_where_it_is_the_only_one() -> None:
    report = render(fixed_manifest(), title="cats").decode()
    assert "Against the CPU" not in report


def test_a_bundle_that_was_never_audited_says_nothing_of_saturation() -> None:
    report = render(fixed_manifest().model_copy(update={"saturation": None}), title="cats").decode()
    assert "saturat" not in report.lower()


def test_the_int8_model_is_named_wherever_it_is_not_int8_onnx() -> None:
    portable = {"int8_model": "int8_portable.onnx", "per_class": (CLASS,)}
    manifest = fixed_manifest()
    manifest = manifest.model_copy(
        update={
            "validation": (*manifest.validation, emulated_result().model_copy(update=portable)),
            "latency": (*manifest.latency, full_latency_result(**portable | {"target": "webgpu"})),
        }
    )
    lines = render(manifest, title="b").decode().splitlines()
    rows = [line for line in lines if "int8_portable.onnx" in line]
    beginnings = [row[: row.index("int8_portable.onnx") + 20] for row in rows]
    there, timed = "cpu@haswell, int8_portable.onnx", "webgpu, int8_portable.onnx"
    assert beginnings == [
        f"| {there} |",
        f"- {there}: ",
        f"| {there} |",
        f"### By class on {there} (",
        f"| {timed}, ",
        f"- {timed}, ",
        *[f"| {timed} |"] * 2,
        *[f"- {timed}, "] * 2,
        "| cpu@haswell | int8_portable.onnx |",
    ]
    plain = render(fixed_manifest(), title="b").decode()
    assert "int8.onnx |" not in plain.partition("## Proven on")[0].replace("size of int8.onnx |", ""), (
        "the usual goes without saying"
    )


def test_a_table_by_class_stands_once_for_all_targets_that_answer_alike() -> None:
    classes = (ClassAccuracy(name="cat", n=7, float_top1=0.5, int8_top1=0.4, drop_pp=10),)
    here, there = (validation_result(target=name, per_class=classes) for name in ("cpu", "openvino"))
    other = validation_result(target="qnn")
    manifest = fixed_manifest().model_copy(update={"validation": (here, there, other)})
    text = render(manifest, title="x").decode()
    heads = [line for line in text.splitlines() if line.startswith("### By class on")]
    assert heads == [
        "### By class on cpu (`validation[0].per_class`)",
        "### By class on qnn (`validation[2].per_class`)",
    ]
    assert "The same on openvino." in text
    assert "The same on qnn" not in text


def test_a_machine_that_tells_no_features_has_no_comma_for_them() -> None:
    result = validation_result()
    bare = result.model_copy(update={"machine": result.machine.model_copy(update={"cpu_features": ()})})
    text = render(fixed_manifest().model_copy(update={"validation": (bare,)}), title="x").decode()
    assert f"{result.machine.cores} cores), " in text
    assert "cores, )" not in text
