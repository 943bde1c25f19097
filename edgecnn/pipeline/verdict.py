"""Gates: pure functions from what was measured to passed or failed."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from edgecnn.bundle.manifest import Check, Difference, LatencyResult, Manifest, ValidationFailure, ValidationResult
from edgecnn.bundle.shipped import shipped_latency, shipped_validation
from edgecnn.errors import EdgecnnError, ExitCode, UsageError
from edgecnn.pipeline.answers import REFERENCE
from edgecnn.pipeline.quantize import INT8_MODEL

#: Percentage points that int8 may lose before a run fails, unless the user says otherwise.
DEFAULT_MAX_DROP_PP = 1.0
#: Percentage points that int8's top-1 on a target may differ from this CPU's, beyond what the images leave in doubt.
DEFAULT_MAX_TARGET_CHANGE_PP = 0.3


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What a bundle must hold to pass.

    Attributes:
        max_drop_pp: top-1 that int8 may lose against float, in percentage points.
        max_target_change_pp: by how much int8's top-1 on another target may surely differ from that on this CPU.
        max_float_flips: images that float may put into another class than on this CPU; None for no image, but of a
            target that computes float in 16 bits what ``max_target_change_pp`` allows.
        require_speedup: whether int8 must be faster than float, beyond the noise.
        max_size_bytes: largest int8 file, or None.
    """

    max_drop_pp: float = DEFAULT_MAX_DROP_PP
    max_target_change_pp: float = DEFAULT_MAX_TARGET_CHANGE_PP
    max_float_flips: int | None = None
    require_speedup: bool = False
    max_size_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop_pp <= 100:
            raise UsageError(
                f"--max-drop is in percentage points, 0 to 100; found {self.max_drop_pp}.", next_step="--max-drop 1.0"
            )
        if not 0 <= self.max_target_change_pp <= 100:
            raise UsageError(
                f"--max-change is in percentage points, 0 to 100; found {self.max_target_change_pp}.",
                next_step=f"--max-change {DEFAULT_MAX_TARGET_CHANGE_PP}",
            )
        if self.max_float_flips is not None and self.max_float_flips < 0:
            raise UsageError(
                f"--max-float-flips must not be below 0, found {self.max_float_flips}.", next_step="--max-float-flips 0"
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


def failed_target(target: str, error: EdgecnnError) -> ValidationFailure:
    """Return the record of a target that gave no figures."""
    return ValidationFailure(
        target=target,
        reason=error.message,
        next_step=error.next_step,
        exit_code=error.exit_code,
        failed_at=datetime.now(UTC).replace(microsecond=0),
    )


def accuracy_checks(results: Iterable[ValidationResult], gates: Gates) -> tuple[Check, ...]:
    """Return the checks of accuracy on each target, and of its answers against this CPU's."""
    return tuple(check for result in results for check in _accuracy_checks(result, gates))


def _accuracy_checks(result: ValidationResult, gates: Gates) -> list[Check]:
    checks = [check_drop(result, gates)]
    if result.float_against_cpu is not None:
        checks.append(_check_flips(result, result.float_against_cpu, gates))
    if result.int8_against_cpu is not None and result.int8_against_cpu.top1_change_low_pp is not None:
        name = _of(result.int8_model, f"int8, change of top-1 on {result.target}")
        checks.append(_check_change(name, result.int8_against_cpu, gates))
    return checks


def check_drop(result: ValidationResult, gates: Gates) -> Check:
    """Hold the drop against the limit: as measured, but of another target's sample only what is beyond doubt.

    This CPU answers all test images, and what a target answers otherwise has a check of its own; 200 images alone would
    fail a sound model by chance.
    """
    sampled = result.n_available is not None and result.float_against_cpu is not None
    drop_pp = result.drop_pp_low if sampled else result.drop_pp
    return Check(
        name=_of(result.int8_model, f"accuracy drop on {result.target}"),
        measured=drop_pp,
        limit=gates.max_drop_pp,
        unit="points (low end of 95%), at most" if sampled else "points, at most",
        passed=drop_pp <= gates.max_drop_pp,
    )


def _check_flips(result: ValidationResult, against: Difference, gates: Gates) -> Check:
    """Float on the target must answer as float here: what it gets wrong alone would hide in the drop of int8.

    Where float has 16 bits, a class may change by rounding, as int8's may, and is held to the same.
    """
    if result.float_bits == 16 and gates.max_float_flips is None:
        return _check_change(f"float in 16 bits, change of top-1 on {result.target}", against, gates)
    limit = gates.max_float_flips or 0
    return Check(
        name=f"float, classes changed on {result.target}",
        measured=against.argmax_flips,
        limit=limit,
        unit=f"images of {result.n}, at most",
        passed=against.argmax_flips <= limit,
    )


def _check_change(name: str, against: Difference, gates: Gates) -> Check:
    """Hold the end of the interval that is nearer to no change against the limit: few images alone fail nothing."""
    low, high = against.top1_change_low_pp or 0.0, against.top1_change_high_pp or 0.0
    sure = max(low, -high, 0.0)
    return Check(
        name=name,
        measured=sure,
        limit=gates.max_target_change_pp,
        unit="points (near end of 95%), at most",
        passed=sure <= gates.max_target_change_pp,
    )


def check_speedup(result: LatencyResult) -> Check:
    """Hold the low end of the speedup's interval against 1; not enough if the precision asked for was not reached."""
    return Check(
        name=_of(result.int8_model, _place("speedup on", result)),
        measured=result.speedup.low,
        limit=1.0,
        unit="times (low end of 95%), above",
        passed=result.verdict == "faster" and not result.too_noisy,
    )


def _of(model: str, name: str) -> str:
    """Return a check's name with the model that it is of, where that is not int8.onnx."""
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
    """Return every check that the gates ask for, from what the manifest holds.

    A target that has a model of its own is held to that one; its own model is held to the gates on this CPU, too, and
    what it does on targets that it was not made for decides nothing.
    """
    own = [one for record in manifest.fitted if record.is_own for one in record.validation]
    here = [one for one in own if one.target == REFERENCE]
    checks = list(accuracy_checks([*shipped_validation(manifest), *here], gates))
    if gates.require_speedup:
        checks += [check_speedup(result) for result in shipped_latency(manifest)]
    int8 = manifest.artifact(INT8_MODEL)
    if gates.max_size_bytes is not None and int8 is not None:
        checks.append(check_size(int8.size_bytes, gates.max_size_bytes))
    return tuple(checks)


def still_true(checks: Iterable[Check], before: Manifest, after: Manifest) -> tuple[Check, ...]:
    """Return the checks but those of figures that one manifest held and the next one does not hold any more."""
    kept = _figures(after)
    gone = {name for figure in _figures(before) if figure not in kept for name in _names(figure)}
    return tuple(check for check in checks if check.name not in gone)


def _figures(manifest: Manifest) -> list[ValidationResult | LatencyResult]:
    found: list[ValidationResult | LatencyResult] = [*manifest.validation, *manifest.latency]
    for record in manifest.fitted:
        found += [*record.validation, *record.latency]
    return found


def _names(figure: ValidationResult | LatencyResult) -> set[str]:
    if isinstance(figure, LatencyResult):
        return {check_speedup(figure).name}
    return {check.name for check in _accuracy_checks(figure, Gates())}


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
