"""Gates: pure functions from what was measured to passed or failed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgecnn.bundle.manifest import Check, LatencyResult, Manifest, ValidationFailure, ValidationResult
from edgecnn.errors import ExitCode, UsageError
from edgecnn.pipeline.quantize import INT8_MODEL

#: Percentage points that int8 may lose before a run fails, unless the user says otherwise.
DEFAULT_MAX_DROP_PP = 1.0


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What a bundle must hold to pass.

    Attributes:
        max_drop_pp: top-1 that int8 may lose against float, in percentage points.
        require_speedup: whether int8 must be faster than float, beyond the noise.
        max_size_bytes: largest int8 file, or None.
    """

    max_drop_pp: float = DEFAULT_MAX_DROP_PP
    require_speedup: bool = False
    max_size_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop_pp <= 100:
            raise UsageError(
                f"--max-drop is in percentage points, 0 to 100; found {self.max_drop_pp}.", next_step="--max-drop 1.0"
            )
        if self.max_size_bytes is not None and self.max_size_bytes < 1:
            raise UsageError(f"--max-size must be above 0, found {self.max_size_bytes}.", next_step="--max-size 100kB")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All checks of a command, and the targets that it could not check; passed if each is, and there are none."""

    checks: tuple[Check, ...]
    failures: tuple[ValidationFailure, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed, and every target answered."""
        return all(check.passed for check in self.checks) and not self.failures

    @property
    def word(self) -> Literal["passed", "failed"]:
        """The verdict in a word."""
        return "passed" if self.passed else "failed"

    @property
    def exit_code(self) -> ExitCode:
        """What the process returns: a target that gave no answer goes before a gate that failed."""
        codes = {failure.exit_code for failure in self.failures}
        if codes:
            target = ExitCode.TARGET_UNAVAILABLE
            return target if target in codes else ExitCode.STAGE_FAILED
        return ExitCode.PASSED if self.passed else ExitCode.GATE_FAILED


def check_drop(result: ValidationResult, gates: Gates, *, model: str = INT8_MODEL) -> Check:
    """Hold the measured drop on all test images against the limit."""
    return Check(
        name=_of(model, f"accuracy drop on {result.target}"),
        measured=result.drop_pp,
        limit=gates.max_drop_pp,
        unit="points, at most",
        passed=result.drop_pp <= gates.max_drop_pp,
    )


def check_speedup(result: LatencyResult, *, model: str = INT8_MODEL) -> Check:
    """Hold the low end of the speedup's interval against 1; not enough if the precision asked for was not reached."""
    return Check(
        name=_of(model, _place("speedup on", result)),
        measured=result.speedup.low,
        limit=1.0,
        unit="times (low end of 95%), above",
        passed=result.verdict == "faster" and not result.too_noisy,
    )


def _of(model: str, name: str) -> str:
    """Return a check's name with the model that it is of, where that is a target's own."""
    return name if model == INT8_MODEL else f"{name}, {model}"


def _place(what: str, result: LatencyResult) -> str:
    through = "" if result.through == "run" else f", through {result.through}"
    return f"{what} {result.target}, batch {result.batch}, {result.threads} threads{through}"


def check_size(size_bytes: int, limit_bytes: int) -> Check:
    """Hold the int8 file's size against the limit."""
    return Check(
        name=f"size of {INT8_MODEL}",
        measured=size_bytes,
        limit=limit_bytes,
        unit="bytes, at most",
        passed=size_bytes <= limit_bytes,
    )


def all_checks(manifest: Manifest, gates: Gates) -> tuple[Check, ...]:
    """Return every check that the gates ask for, from what the manifest holds."""
    checks = [check_drop(result, gates) for result in manifest.validation]
    checks += [check_drop(result, gates, model=one.model) for one in manifest.fitted for result in one.validation]
    if gates.require_speedup:
        checks += [check_speedup(result) for result in manifest.latency]
        checks += [check_speedup(result, model=one.model) for one in manifest.fitted for result in one.latency]
    int8 = manifest.artifact(INT8_MODEL)
    if gates.max_size_bytes is not None and int8 is not None:
        checks.append(check_size(int8.size_bytes, gates.max_size_bytes))
    return tuple(checks)


def merge(old: Iterable[Check], new: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks with those of the same name replaced."""
    by_name = {check.name: check for check in old} | {check.name: check for check in new}
    return tuple(by_name.values())


def parse_size(text: str) -> int:
    """Return a size such as ``100kB`` (1000) or ``1MiB`` (1024) in bytes.

    Raises:
        UsageError: it is not a size.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError as error:
        raise UsageError(
            f"--max-size: expected a size such as 100kB or 1MiB, found {text!r}.", next_step="--max-size 100kB"
        ) from error
