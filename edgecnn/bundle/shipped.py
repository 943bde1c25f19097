"""What was measured of the int8 model that each target is to run: views of a manifest."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from edgecnn.bundle.latency import LatencyResult
from edgecnn.bundle.manifest import Manifest, ValidationResult

_Result = TypeVar("_Result", ValidationResult, LatencyResult)


def shipped_validation(manifest: Manifest) -> tuple[ValidationResult, ...]:
    """Return accuracy on each target, of its own model where it has one: figures of another there decide nothing."""
    own = ((record.target, record.validation) for record in manifest.fitted if record.is_own)
    return tuple(_shipped(manifest.validation, own))


def shipped_latency(manifest: Manifest) -> tuple[LatencyResult, ...]:
    """Return latency on each target, of its own model where it has one."""
    own = ((record.target, record.latency) for record in manifest.fitted if record.is_own)
    return tuple(_shipped(manifest.latency, own))


def _shipped(shared: Iterable[_Result], own: Iterable[tuple[str, Iterable[_Result]]]) -> Iterator[_Result]:
    by_provider = dict(own)
    yield from (result for result in shared if _provider(result) not in by_provider)
    for provider, results in by_provider.items():
        yield from (result for result in results if _provider(result) == provider)


def _provider(result: ValidationResult | LatencyResult) -> str:
    return result.target.partition("@")[0]
