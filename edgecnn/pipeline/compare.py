"""Two measurements side by side: two bundles, two dates, or both."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgecnn.bundle import Bundle
from edgecnn.bundle.comparison import ComparedPlace, ComparisonRecord, Figure
from edgecnn.bundle.latency import LatencyResult
from edgecnn.bundle.manifest import Check
from edgecnn.bundle.measurement import Measurement, read_measurement
from edgecnn.bundle.record import MachineRecord
from edgecnn.bundle.shipped import shipped_latency
from edgecnn.errors import BundleError
from edgecnn.measure.figures import latency_figures, protocol_figures
from edgecnn.pipeline.measurement import measured_files
from edgecnn.pipeline.verdict import Verdict

Key = tuple[str, int, int, str]
#: What must be equal for two latencies to be comparable; of software it is only said.
_HARDWARE = ("architecture", "cpu", "cores", "cpu_features")
_ANYWAY = "--any-machine, if you know what the ratio means then"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Both measurements side by side, and the gate on them."""

    record: ComparisonRecord
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One of the two: what it is called, and what it holds."""

    name: str
    measurement: Measurement

    @property
    def results(self) -> dict[Key, LatencyResult]:
        return {(r.target, r.batch, r.threads, r.through): r for r in self.measurement.results}

    @property
    def sizes(self) -> dict[str, int]:
        return {name: file.size_bytes for name, file in self.measurement.models.items()}


def compare(a: Path, b: Path, *, any_machine: bool = False, fail_if_slower: float | None = None) -> Compared:
    """Compare what two calls of ``edgecnn bench`` found.

    Args:
        a: a bundle, or a file that ``edgecnn bench --save`` wrote.
        b: another; ratios are its figures divided by those of ``a``.
        any_machine: compare across machines, batches and thread counts, and say so.
        fail_if_slower: a fraction; the gate fails if either model's median latency rose by more, beyond the noise.

    Raises:
        BundleError: one cannot be read or holds no latency, or the two are not comparable.
    """
    sides = _Side(name=str(a), measurement=_read(a)), _Side(name=str(b), measurement=_read(b))
    pairs = _match(*sides, any_machine=any_machine)
    notes = [note for one, other in pairs for note in _machine_notes(one, other, any_machine=any_machine)]
    notes += _protocol_notes(*sides, any_machine=any_machine)
    places = _places(*sides, pairs)
    record = ComparisonRecord(
        a=sides[0].name,
        b=sides[1].name,
        places=tuple(places),
        only_a=_left_over(sides[0], pairs),
        only_b=_left_over(sides[1], pairs),
        notes=tuple(dict.fromkeys([*notes, *_file_notes(*sides), *_noise_notes(pairs)])),
    )
    checks = () if fail_if_slower is None else tuple(_checks(places, fail_if_slower))
    return Compared(record=record, verdict=Verdict(checks=checks))


def _places(a: _Side, b: _Side, pairs: Iterable[tuple[LatencyResult, LatencyResult]]) -> list[ComparedPlace]:
    """Return the figures of each pair of results, and of a protocol that both hold."""
    places = [
        ComparedPlace(place=_pair_name(one, other), figures=latency_figures(one, other, a.sizes, b.sizes))
        for one, other in pairs
    ]
    one, other = a.measurement.protocol, b.measurement.protocol
    if one is not None and other is not None:
        places.append(ComparedPlace(place=one.protocol, figures=protocol_figures(one, other)))
    return places


def _left_over(side: _Side, pairs: Iterable[tuple[LatencyResult, LatencyResult]]) -> tuple[str, ...]:
    used = {id(result) for pair in pairs for result in pair}
    return tuple(_name(result) for result in side.results.values() if id(result) not in used)


def _read(path: Path) -> Measurement:
    """Return what a bundle's manifest or a saved file holds."""
    if not path.is_dir():
        found = read_measurement(path)
    else:
        bundle = Bundle.open(path)
        network, results = bundle.manifest.network, shipped_latency(bundle.manifest)
        found = Measurement(
            edgecnn_version=bundle.manifest.edgecnn_version,
            network=network.name if network else None,
            models=measured_files(bundle, *(result.int8_model for result in results)),
            results=results,
        )
    if not found.results and found.protocol is None:
        raise BundleError(f"{path}: holds no latency.", next_step="edgecnn bench, on the machine that it is about")
    return found


def _match(a: _Side, b: _Side, *, any_machine: bool) -> list[tuple[LatencyResult, LatencyResult]]:
    """Return the results of the same target, batch, threads and way of calling."""
    common = [(a.results[key], b.results[key]) for key in a.results if key in b.results]
    if common or (a.measurement.protocol is not None and b.measurement.protocol is not None):
        return common
    if any_machine and len(a.results) == len(b.results) == 1:
        return list(zip(a.results.values(), b.results.values(), strict=True))
    raise BundleError(
        f"{a.name} and {b.name} have no target, batch and thread count in common: {_names(a.results.values())} there, "
        f"{_names(b.results.values())} here.",
        next_step=f"edgecnn bench with the same --provider, --batch and --threads, or {_ANYWAY}",
    )


def _machine_notes(a: LatencyResult, b: LatencyResult, *, any_machine: bool) -> list[str]:
    notes = _compare_machines(a.machine, b.machine, any_machine=any_machine)
    if a.int8_model != b.int8_model:
        notes.append(f"{_name(a)}: int8 is {a.int8_model} in A and {b.int8_model} in B")
    if _name(a) != _name(b):
        notes.append(f"{_name(a)} is compared with {_name(b)}")
    return notes


def _compare_machines(a: MachineRecord, b: MachineRecord, *, any_machine: bool) -> list[str]:
    """Return how the machines differ in software; refuse those that differ in hardware, or say so.

    Raises:
        BundleError: they differ, and nobody said that this is meant.
    """
    differing = [name for name in _HARDWARE if getattr(a, name) != getattr(b, name)]
    notes = []
    if differing:
        said = "; ".join(f"{name} {_plain(getattr(a, name))} and {_plain(getattr(b, name))}" for name in differing)
        if not any_machine:
            raise BundleError(f"measured on two machines: {said}.", next_step=_ANYWAY)
        notes.append(f"OTHER MACHINE: {said}")
    versions = sorted(set(a.versions) | set(b.versions))
    changed = [
        f"{n} {a.versions.get(n, 'none')} and {b.versions.get(n, 'none')}"
        for n in versions
        if a.versions.get(n) != b.versions.get(n)
    ]
    if a.system != b.system:
        changed.insert(0, f"{a.system} and {b.system}")
    if changed:
        notes.append(f"other software: {'; '.join(changed)}")
    return notes


def _protocol_notes(a: _Side, b: _Side, *, any_machine: bool) -> list[str]:
    one, other = a.measurement.protocol, b.measurement.protocol
    if one is None or other is None:
        return []
    notes = _compare_machines(one.machine, other.machine, any_machine=any_machine)
    if (one.target, one.threads) != (other.target, other.threads):
        said = f"{one.target} with {one.threads} threads and {other.target} with {other.threads}"
        if not any_machine:
            raise BundleError(f"mlperf-tiny on {said}.", next_step=_ANYWAY)
        notes.append(f"mlperf-tiny on {said}")
    for side, result in ((a, one), (b, other)):
        notes += [f"{side.name}: not according to the protocol: {departure}" for departure in result.departures]
    return notes


def _file_notes(a: _Side, b: _Side) -> list[str]:
    """Say which of the two files are one and the same."""
    before, after = a.measurement.models, b.measurement.models
    return [
        f"{name}: {'the same file' if before[name].sha256 == after[name].sha256 else 'another file'}"
        for name in before
        if name in after
    ]


def _noise_notes(pairs: Iterable[tuple[LatencyResult, LatencyResult]]) -> list[str]:
    notes = []
    for pair in pairs:
        for which, result in zip("AB", pair, strict=True):
            said = [] if result.noise is None else list(result.noise.warnings)
            if result.too_noisy:
                said.append("too noisy to reach the precision that was asked for")
            notes += [f"{which}, {_name(result)}: {warning}" for warning in said]
    return notes


def _checks(places: Iterable[ComparedPlace], limit: float) -> list[Check]:
    return [
        _check(figure, place.place, limit)
        for place in places
        for figure in place.figures
        if figure.name in ("p50", "inferences")
    ]


def _check(figure: Figure, place: str, limit: float) -> Check:
    """Hold how much longer one inference takes against the limit; a rise that may be noise is none."""
    ratio, floor = figure.ratio.median, figure.ratio.low
    if figure.name == "inferences":  # more of them are better
        ratio, floor = 1 / ratio, None if figure.ratio.high is None else 1 / figure.ratio.high
    return Check(
        name=f"{figure.model} time, {place}",
        measured=ratio,
        limit=1 + limit,
        unit="times, at most",
        passed=ratio <= 1 + limit or (floor is not None and floor <= 1),
    )


def _name(result: LatencyResult) -> str:
    through = "" if result.through == "run" else f", through {result.through}"
    return f"{result.target}, batch {result.batch}, {result.threads} threads{through}"


def _pair_name(a: LatencyResult, b: LatencyResult) -> str:
    return _name(a) if _name(a) == _name(b) else f"{_name(a)} / {_name(b)}"


def _names(results: Iterable[LatencyResult]) -> str:
    return "; ".join(map(_name, results)) or "none"


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
