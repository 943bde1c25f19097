"""What many tests share: an isolated cache and one finished bundle."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Two test processes on two cores, each with two OpenMP threads, take six times as long as with one each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "edgecnn", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("edgecnn")

ROOT = Path(__file__).resolve().parent.parent
CIFAR_ARCHIVE = ROOT.parent / "shared" / "data" / "cifar10-jpeg.tar.gz"


@pytest.fixture(scope="session", autouse=True)
def isolated_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep decoded images away from the user's cache, also in child processes."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["EDGECNN_CACHE"] = str(folder)
    os.environ["COLUMNS"], os.environ["NO_COLOR"] = "100", "1"
    return folder


@pytest.fixture(scope="session")
def finished_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that went the whole way on the digits in two epochs; copy it before changing it."""
    import edgecnn

    folder = tmp_path_factory.mktemp("finished") / "bundle"
    edgecnn.run(
        settings=edgecnn.RunSettings(
            training=edgecnn.TrainingSettings(epochs=2),
            bench=edgecnn.BenchSettings(pairs=6, rounds=1, seconds=0.1),
            gates=edgecnn.Gates(max_drop_pp=100),
            tune_seconds=0,
        ),
        options=edgecnn.Options(bundle=folder, data="digits"),
    )
    return folder


@pytest.fixture
def bundle_copy(finished_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished bundle that a test may spoil."""
    return Path(shutil.copytree(finished_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def cifar10_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the JPEG CIFAR-10 as an image folder, unpacked once."""
    if not CIFAR_ARCHIVE.is_file():
        pytest.skip(f"the JPEG CIFAR-10 archive is not at ../shared/data ({CIFAR_ARCHIVE.name})")
    folder = tmp_path_factory.mktemp("cifar10") / "cifar10-jpeg"
    with tarfile.open(CIFAR_ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder
