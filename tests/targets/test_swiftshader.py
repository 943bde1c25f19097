"""Chromium's GPU in software is found where Chromium is, or not at all."""

from pathlib import Path

import pytest

from edgecnn.targets import swiftshader

FILES = ("vk_swiftshader_icd.json", "libvk_swiftshader.so", "libvulkan.so.1")


def chromium(folder: Path, *, without: str = "") -> Path:
    folder.mkdir()
    for name in FILES:
        if name != without:
            (folder / name).touch()
    return folder


def test_it_is_found_in_a_folder_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGECNN_SWIFTSHADER", raising=False)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(swiftshader, "FOLDERS", (str(tmp_path / "none"), str(chromium(tmp_path / "chromium"))))
    assert swiftshader.swiftshader_folder() == tmp_path / "chromium"
    assert swiftshader.why_no_swiftshader() is None
    assert swiftshader.swiftshader_variables() == {
        "LD_LIBRARY_PATH": str(tmp_path / "chromium"),
        "VK_ICD_FILENAMES": str(tmp_path / "chromium" / "vk_swiftshader_icd.json"),
        "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1",
    }


def test_libraries_that_were_asked_for_before_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_SWIFTSHADER", str(chromium(tmp_path / "mine")))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    assert swiftshader.swiftshader_variables()["LD_LIBRARY_PATH"] == f"{tmp_path / 'mine'}:/opt/lib"


@pytest.mark.parametrize("without", FILES)
def test_one_that_lacks_a_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    folder = chromium(tmp_path / "mine", without=without)
    monkeypatch.setenv("EDGECNN_SWIFTSHADER", str(folder))
    reason = swiftshader.why_no_swiftshader()
    assert reason is not None
    assert without in reason
    assert str(folder) in reason
    assert swiftshader.swiftshader_variables() == {}
