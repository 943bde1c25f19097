"""The demo page: what is written, what is refused, and in a real Chromium the same answers as in Python, offline."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.data import Images
from edgecnn.data.resize import to_rgb
from edgecnn.errors import BundleError, DataError, ExitCode, TargetError, UsageError
from edgecnn.pipeline import demo_page
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.demo_page import first_of_each, page_server, write_demo_page
from edgecnn.targets import reference_session
from edgecnn.targets.browser import WASM_ISOLATED
from edgecnn.targets.npm import WASM
from edgecnn.targets.session import feed
from tests.web import real_targets

#: The page's scripts that are not onnxruntime-web's.
OWN = ("opened.js", "demo.mjs", "classifier.mjs", "preprocess.mjs")
BUNDLE = Path(__file__).parents[2] / "artifacts" / "simplecnn-cifar10"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for onnxruntime-web's files."""
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    for name in WASM.kept:
        WASM.path(name).parent.mkdir(parents=True, exist_ok=True)
        WASM.path(name).write_text(name)


@pytest.fixture
def images(tmp_path: Path) -> str:
    """Return a source of images of the bundle's classes."""
    classes = Bundle.open(BUNDLE).manifest.data.classes  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in classes:
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{number}.png")
    return str(tmp_path / "images")


def write(folder: Path, *, samples: int | None = 0, data: str | None = None) -> demo_page.DemoPage:
    return write_demo_page(folder=folder, samples=samples, options=Options(bundle=BUNDLE, data=data))


@pytest.mark.usefixtures("library")
def test_the_page_holds_both_models_and_everything_it_loads(tmp_path: Path) -> None:
    page = write(tmp_path / "page")
    about = json.loads((page.folder / "model.json").read_text())
    manifest = Bundle.open(BUNDLE).manifest
    assert [model["name"] for model in about["models"]] == ["float", "int8"]
    for model in about["models"]:
        data = (page.folder / model["file"]).read_bytes()
        assert sha256_bytes(data) == model["sha256"] == manifest.artifact(model["file"]).sha256  # type: ignore[union-attr]
        assert len(data) == model["size_bytes"] == page.files[model["file"]]
    assert about["classes"] == list(manifest.data.classes)  # type: ignore[union-attr]
    assert page.size_bytes == sum(path.stat().st_size for path in page.folder.iterdir())
    assert {path.name for path in page.folder.iterdir()} == set(page.files)


@pytest.mark.usefixtures("library")
def test_nothing_on_the_page_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    folder = write(tmp_path / "page").folder
    for path in folder.iterdir():
        if path.suffix in (".html", ".css", ".json") or path.name in OWN:
            assert "://" not in path.read_text(), path.name
    assert "default-src 'none'" in (folder / "index.html").read_text()


@pytest.mark.usefixtures("library")
def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path, images: str) -> None:
    first, second = (write(tmp_path / name, samples=10, data=images) for name in ("a", "b"))
    assert first.files == second.files
    for name in first.files:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


@pytest.mark.usefixtures("library")
def test_samples_are_lossless_test_pictures_one_a_class(tmp_path: Path, images: str) -> None:
    page = write(tmp_path / "page", samples=None, data=images)
    about = json.loads((page.folder / "model.json").read_text())
    assert [row["label"] for row in about["samples"]] == about["classes"]
    shown = np.asarray(Image.open(page.folder / "sample-03.png"))
    expected = np.asarray(Image.open(Path(images) / "test" / about["classes"][3] / "0.png"))
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.usefixtures("library")
def test_written_again_it_leaves_no_old_samples(tmp_path: Path, images: str) -> None:
    write(tmp_path / "page", samples=12, data=images)
    assert (tmp_path / "page" / "sample-11.png").exists()
    write(tmp_path / "page", samples=2, data=images)
    assert sorted(path.name for path in (tmp_path / "page").glob("*.png")) == ["sample-00.png", "sample-01.png"]


def test_the_first_of_each_class_come_first() -> None:
    labels = np.array([2, 2, 0, 1, 0, 2], np.int64)
    test = Images(pixels=np.zeros((6, 1, 1, 3), np.uint8), labels=labels, classes=("a", "b", "c"), split="test")
    assert first_of_each(test, 10) == [2, 3, 0, 4, 1, 5]
    assert first_of_each(test, 3) == [2, 3, 0]


@pytest.mark.usefixtures("library")
def test_samples_that_are_asked_for_need_images(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write(tmp_path / "page", samples=3)
    assert not (tmp_path / "page").exists()
    assert write(tmp_path / "page", samples=None).samples == 0


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("samples", [-1, 101])
def test_a_senseless_number_of_samples_is_refused(tmp_path: Path, samples: int) -> None:
    with pytest.raises(UsageError, match=f"--samples must be 0 to 100, found {samples}"):
        write(tmp_path / "page", samples=samples)


def test_without_onnxruntime_web_the_command_to_type_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(TargetError, match=r"demo-page: onnxruntime-web 1\.30\.0 is not set up") as caught:
        write(tmp_path / "page")
    assert caught.value.next_step == "edgecnn targets install wasm"
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE


@pytest.mark.usefixtures("library")
def test_other_files_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    with pytest.raises(UsageError, match="expected an empty folder or an earlier demo page") as caught:
        write(tmp_path / "mine")
    assert caught.value.next_step == "give another folder with --out"
    assert (tmp_path / "mine" / "index.html").read_text() == "mine"
    with pytest.raises(UsageError, match="expected a folder, found a file"):
        write(tmp_path / "mine" / "index.html")


@pytest.mark.usefixtures("library")
def test_a_changed_model_is_refused(tmp_path: Path) -> None:
    bundle = shutil.copytree(BUNDLE, tmp_path / "bundle")
    with (bundle / "int8.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="the file was changed"):
        write_demo_page(folder=tmp_path / "page", samples=0, options=Options(bundle=bundle))


@pytest.mark.usefixtures("library")
def test_a_port_in_use_is_named_and_another_will_do(tmp_path: Path) -> None:
    folder = write(tmp_path / "page").folder
    with page_server(folder) as first:
        with pytest.raises(UsageError, match=f"port {first.server_port} is in use") as caught:
            page_server(folder, port=first.server_port)
        assert caught.value.next_step.startswith("--port 0")
        with page_server(folder) as second:
            assert second.server_port != first.server_port
    with pytest.raises(UsageError, match="port 99999 cannot be served on"):
        page_server(folder, port=99999)


def test_a_folder_without_a_page_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expected a demo page, found no model\.json"):
        page_server(tmp_path)


#: Loads the page, blocks the network, gives it pictures, and prints what it shows; in playwright's own Python.
VISIT = """
import json, sys
from playwright.sync_api import sync_playwright
chromium, address, *pictures = sys.argv[1:]
with sync_playwright() as playwright:
    blocked = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", blocked]
    browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
    context = browser.new_context()
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes], #status.bad", timeout=60_000)
    status, found = page.inner_text("#status"), []
    if not status:
        context.set_offline(True)
        for number, picture in enumerate(pictures, 1):
            page.set_input_files("#file", picture)
            page.wait_for_selector(f"#answers[data-pictures='{number}']", timeout=60_000)
            found.append([json.loads(page.get_attribute(f"#{name}", "data-logits")) for name in ("float", "int8")])
        for sample in page.query_selector_all("#samples button"):
            before = page.get_attribute("#answers", "data-pictures")
            sample.click()
            page.wait_for_selector(f"#answers[data-pictures='{int(before) + 1}']", timeout=60_000)
            page.wait_for_selector("#int8[data-ms]", timeout=60_000)  # measured to its end once
        page.set_input_files("#file", sys.argv[0])  # no picture
        page.wait_for_selector("#status.bad", timeout=60_000)
        status = page.inner_text("#status")
    print(json.dumps({"found": found, "asked": asked, "errors": errors, "status": status,
                      "isolated": page.evaluate("crossOriginIsolated"),
                      "ms": [page.get_attribute(f"#{name}", "data-ms") for name in ("float", "int8")]}))
"""


#: Gives the page pictures in every other way than as a file that is chosen, and opens it as a file itself.
WAYS = """
import json, sys
from pathlib import Path
from playwright.sync_api import sync_playwright
chromium, address, folder, picture = sys.argv[1:]
EVENT = '''async ([kind, bytes, type]) => {
  const data = new DataTransfer();
  if (type === "text") data.setData("text/plain", "no picture");
  else data.items.add(new File([new Uint8Array(bytes)], "x", { type }));
  const told = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
  document.body.dispatchEvent(kind === "paste" ? new ClipboardEvent(kind, told) : new DragEvent(kind, told));
}'''
with sync_playwright() as playwright:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--use-fake-device-for-media-stream",
             "--use-fake-ui-for-media-stream"]
    browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
    page = browser.new_context(permissions=["camera"]).new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]")
    said = {"knows": page.inner_text("#knows"), "logits": [], "bad": []}
    whole = list(Path(picture).read_bytes())
    for number, kind in enumerate(("drop", "paste"), 1):
        page.evaluate(EVENT, [kind, whole, "image/png"])
        page.wait_for_selector(f"#answers[data-pictures='{number}']")
        said["logits"].append(json.loads(page.get_attribute("#float", "data-logits")))
    for kind, data, type in (("drop", [], "text"), ("paste", [], "text"), ("drop", whole[:60], "image/png")):
        page.evaluate("() => { document.getElementById('status').className = '' }")
        page.evaluate(EVENT, [kind, data, type])
        page.wait_for_selector("#status.bad")
        said["bad"].append(page.inner_text("#status.bad"))
    page.click("#camera")
    while int(page.get_attribute("#answers", "data-pictures")) < 5:
        page.wait_for_timeout(50)
    said["camera"] = [page.inner_text("#camera"), page.is_visible("#video"), page.inner_text("#status")]
    page.click("#camera")
    page.wait_for_selector("#int8[data-ms]")
    page.wait_for_selector("#again:enabled")
    said["after"] = [page.inner_text("#camera"), page.is_visible("#video")]
    said["how"] = page.inner_text("#how")
    page.goto(Path(folder, "index.html").as_uri())
    page.wait_for_selector("#status.bad")
    said["file"] = page.inner_text("#status")
    print(json.dumps(said))
"""


def test_in_a_real_browser_every_way_in_works_and_what_is_no_picture_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_targets(monkeypatch, chromium=True)
    folder = write(tmp_path / "page").folder
    small = np.random.default_rng(0).integers(0, 256, (3, 3, 3), np.uint8)
    image = Image.fromarray(small).resize((48, 40), Image.Resampling.NEAREST)
    image.save(tmp_path / "picture.png")
    said = visit(folder, tmp_path, [folder, tmp_path / "picture.png"], script=WAYS)
    session = reference_session((BUNDLE / "float.onnx").read_bytes(), model_name="float.onnx")
    here = session.run(feed(to_rgb(image, 32, 32)[None], session.input))[0]
    for there in said["logits"]:  # type: ignore[attr-defined]
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-4)
    bad = said["bad"]
    assert isinstance(bad, list)
    text_dropped, text_pasted, torn = bad
    assert text_dropped == text_pasted
    assert "no picture in that" in text_dropped
    assert "not a picture this browser can read" in torn
    assert said["camera"] == ["Stop the camera", True, ""]
    assert said["after"] == ["Use the camera", False]
    assert "It knows 10 things" in str(said["knows"])
    assert "airplane, automobile" in str(said["knows"])
    assert "95 % interval" in str(said["how"])
    assert "opened as a file" in str(said["file"])
    assert "edgecnn demo-page --serve" in str(said["file"])


def visit(folder: Path, tmp_path: Path, pictures: list[Path], *, script: str = VISIT) -> dict[str, object]:
    place = tmp_path / "visit.py"
    place.write_text(script)
    with page_server(folder) as server:
        server.start()
        command = [sys.executable, "-S", str(place), WASM_ISOLATED.program, server.address, *map(str, pictures)]
        environment = {**os.environ, **WASM_ISOLATED.environment()}
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_in_a_real_browser_it_answers_as_python_does_and_needs_no_network(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_targets(monkeypatch, chromium=True)
    rng = np.random.default_rng(0)
    pictures, arrays = [], []
    for number, (width, height) in enumerate(
        [(32, 32)] * 4 + [(40, 30), (31, 97), (200, 64), (64, 64), (8, 8), (33, 500)]
    ):
        small = rng.integers(0, 256, (3, 3, 3), np.uint8)  # patches: what a network of photographs can tell apart
        image = Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)
        pictures.append(tmp_path / f"{number}.png")
        image.save(pictures[-1])
        arrays.append(to_rgb(image, 32, 32))
    found = visit(write(tmp_path / "page", samples=1, data=images).folder, tmp_path, pictures)
    assert found["errors"] == []
    assert found["isolated"] is True
    assert "not a picture this browser can read" in str(found["status"])
    for column, name in enumerate(("float.onnx", "int8.onnx")):
        session = reference_session((BUNDLE / name).read_bytes(), model_name=name)
        here = session.run(feed(np.stack(arrays), session.input))
        there = np.array([row[column] for row in found["found"]])  # type: ignore[attr-defined]
        assert there.shape == (10, 10)
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(there.argmax(1), here.argmax(1))
    assert all(float(value) > 0 for value in found["ms"])  # type: ignore[attr-defined]
    asked = found["asked"]
    assert isinstance(asked, list)
    assert all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in asked)


def test_in_a_real_browser_a_missing_model_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_targets(monkeypatch, chromium=True)
    folder = write(tmp_path / "page").folder
    (folder / "int8.onnx").unlink()
    assert "int8.onnx is missing (404). Write the page again: edgecnn demo-page" in str(
        visit(folder, tmp_path, [])["status"]
    )
