"""A measurement in a file of its own: what ``edgecnn bench --save`` writes and ``edgecnn compare`` reads."""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edgecnn.bundle import atomic
from edgecnn.bundle.latency import Bytes, LatencyResult
from edgecnn.bundle.mlperf_tiny import TinyResult
from edgecnn.bundle.operators import OperatorProfile
from edgecnn.bundle.record import Record, Sha256
from edgecnn.errors import BundleError, EdgecnnError

MAX_BYTES = 16 * 2**20


class MeasuredFile(Record):
    """A model that was measured, by content."""

    sha256: Sha256
    size_bytes: Bytes


class Measurement(Record):
    """What one call of ``edgecnn bench`` found of the models of one bundle; ``models`` are by file name."""

    format: Literal["edgecnn-measurement"] = "edgecnn-measurement"
    schema_version: Literal[1] = 1
    edgecnn_version: str
    network: str | None
    models: dict[str, MeasuredFile]
    results: tuple[LatencyResult, ...] = ()
    profiles: tuple[OperatorProfile, ...] = ()
    protocol: TinyResult | None = None


def require_savable(path: Path) -> None:
    """Find out before the work, not after it, that a measurement cannot be written there.

    Raises:
        BundleError: the folder is not there or cannot be written, or something else than a measurement is there.
        StorageError: the disk is full.
    """
    if path.exists():  # a slip of the finger must not cost anyone a manifest
        try:
            read_measurement(path)
        except BundleError as error:
            raise BundleError(
                f"{path}: --save replaces only what it wrote itself; this is something else.",
                next_step="--save OTHER.json",
            ) from error
    probe = path.parent / f"{atomic.TEMPORARY_PREFIX}probe"
    try:
        atomic.write_atomically(probe, b"\0" * 4096)
    except BundleError as error:
        raise _unsavable(path, error) from error
    probe.unlink(missing_ok=True)


def write_measurement(path: Path, measurement: Measurement) -> None:
    """Write the whole file or nothing.

    Raises:
        BundleError: the folder cannot be written.
        StorageError: the disk is full.
    """
    try:
        atomic.write_atomically(path, (measurement.model_dump_json(indent=2) + "\n").encode())
    except BundleError as error:
        raise _unsavable(path, error) from error


def read_measurement(path: Path) -> Measurement:
    """Read a file written by anyone.

    Raises:
        BundleError: it is not there, too large, or not a measurement.
    """
    remedy = "edgecnn bench --save FILE.json"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path}: not readable ({error.strerror}).", next_step=remedy) from error
    if len(data) > MAX_BYTES:
        raise BundleError(f"{path}: larger than {MAX_BYTES} bytes; not a measurement.", next_step=remedy)
    try:
        return Measurement.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            f"{path}: expected a measurement of edgecnn, found a problem at {where}: {first['msg']}.", next_step=remedy
        ) from error


def _unsavable(path: Path, error: EdgecnnError) -> BundleError:
    return BundleError(f"--save {path}: {error.message}", next_step="--save FILE.json in a folder that can be written")
