"""Measurements in files: written whole or not at all, read from anyone."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgecnn.bundle import measurement
from edgecnn.bundle.measurement import read_measurement, require_savable, write_measurement
from edgecnn.errors import BundleError, ExitCode
from tests.bundles import full_latency_result, latency_result, operator_profile, tiny_result
from tests.bundles import measurement as made_up

WHOLE = made_up(full_latency_result(), latency_result(), profiles=(operator_profile(),), protocol=tiny_result())


def saved(folder: Path) -> Path:
    path = folder / "m.json"
    write_measurement(path, WHOLE)
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(BundleError) as caught:
        read_measurement(path)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert str(path) in caught.value.message
    assert caught.value.next_step
    for word in words:
        assert word in caught.value.message


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_measurement(saved(tmp_path)) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_the_same_measurement_gives_the_same_bytes(tmp_path: Path) -> None:
    first = saved(tmp_path).read_bytes()
    write_measurement(tmp_path / "m.json", read_measurement(tmp_path / "m.json"))
    assert (tmp_path / "m.json").read_bytes() == first


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_torn_file_is_refused(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "expected a measurement of edgecnn")


HOSTILE: list[tuple[str, Any]] = [
    ("results.0.float.p50_us", -1),
    ("results.0.float.p50_us", 1e300),
    ("results.0.float.p50_us", 1e-300),
    ("results.0.float.n", 10**400),
    ("results.0.float_medians_us", [1.0] * 1001),
    ("results.0.noise.steal", 7),
    ("results.0.surprise", 1),
    ("models.float.onnx.size_bytes", 10**400),
    ("models.float.onnx.sha256", "../../etc/passwd"),
    ("protocol.float_model.windows", [1.0] * 101),
    ("schema_version", 2),
    ("format", "edgecnn-bundle"),
]


@pytest.mark.parametrize(("where", "value"), HOSTILE, ids=[f"{where} {str(value)[:12]}" for where, value in HOSTILE])
def test_a_figure_that_cannot_be_is_refused_by_its_place(tmp_path: Path, where: str, value: Any) -> None:
    tree = json.loads(WHOLE.model_dump_json())
    inner: Any = tree
    *path, last = where.replace("float.onnx", "float~onnx").split(".")
    for key in path:
        inner = inner[int(key) if key.isdigit() else key.replace("~", ".")]
    inner[last] = value
    file = tmp_path / "m.json"
    file.write_text(json.dumps(tree))
    refused(file, last)


@pytest.mark.parametrize(
    "text", ["NaN", "[]", "null", "[" * 100_000, '{"results": [1]}', '{"a": NaN}', "\x00", "{}{}"], ids=lambda t: t[:9]
)
def test_what_is_no_measurement_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "m.json"
    file.write_text(text)
    refused(file, "expected a measurement of edgecnn")


def test_a_file_too_large_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "MAX_BYTES", 100)
    refused(saved(tmp_path), "larger than 100 bytes")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.json", "not readable (No such file or directory)")
    refused(tmp_path, "not readable (Is a directory)")


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    require_savable(tmp_path / "new.json")
    assert list(tmp_path.iterdir()) == []
    path = saved(tmp_path)
    before = path.read_bytes()
    require_savable(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{}", '{"format": "edgecnn-bundle"}', "my thesis"])
def test_something_else_is_not_overwritten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(BundleError, match="--save replaces only what it wrote itself") as caught:
        require_savable(path)
    assert caught.value.next_step == "--save OTHER.json"
    assert path.read_text() == content


def test_a_folder_that_is_not_there_is_refused_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "none" / "m.json"
    for attempt in (require_savable, partial(write_measurement, measurement=WHOLE)):
        with pytest.raises(BundleError, match=f"--save {path}: ") as caught:
            attempt(path)
        assert "--save FILE.json in a folder that can be written" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BundleError, match=r"--save .*cannot be written"):
            require_savable(tmp_path / "m.json")
    finally:
        tmp_path.chmod(0o700)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()

    def fails(descriptor: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(BundleError, match="--save"):
        write_measurement(path, made_up())
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["m.json"]
