"""Time of each operator of a model, by ONNX Runtime's own profiler in sessions of their own."""

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median_grouped
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecnn.bundle.operators import LayerTimes, ModelProfile, OperatorTime
from edgecnn.errors import StageError
from edgecnn.measure.layer_names import OVERHEAD, LayerNames, twins
from edgecnn.measure.warmup import warm_up
from edgecnn.targets.native import open_inference_session
from edgecnn.targets.session import Feed

#: About how long each model is profiled, and how few and how many runs that may be.
PROFILE_S = 0.5
RUNS = (30, 2000)
#: More events would make a file of a gigabyte.
MAX_EVENTS = 200_000
#: The models take turns of so many runs.
TURNS = 5
#: A layer is called slower in int8 from this factor on, and by more than the profiler's grain.
SLOWER_FACTOR = 1.05
SLOWER_US = 0.5


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """One model to profile: its bytes, its name in messages, and what it is fed."""

    model: bytes
    name: str
    batch: Feed


def profile_operators(
    models: tuple[Profiled, Profiled], *, provider: str, threads: int
) -> tuple[ModelProfile, ModelProfile, tuple[LayerTimes, ...]]:
    """Profile float and int8 in turns, and lay their layers side by side.

    Args:
        models: float, then int8.
        provider: ONNX Runtime's name of the execution provider.
        threads: of ONNX Runtime.

    Raises:
        StageError: the profiler wrote something else than expected.
    """
    events = _record(models, provider, threads)
    names = [LayerNames(ModelProto.FromString(each.model)) for each in models]
    of_float, of_int8 = (_summarize(each, found) for each, found in zip(events, names, strict=True))
    return of_float, of_int8, compare_layers(of_float, of_int8, names[0], names[1])


def compare_layers(
    of_float: ModelProfile, of_int8: ModelProfile, float_names: LayerNames, int8_names: LayerNames
) -> tuple[LayerTimes, ...]:
    """Return every float layer with its time in both models."""
    back = twins(float_names, int8_names)
    float_us, int8_us = _by_layer(of_float), _by_layer(of_int8)
    int8_us = {back[name]: us for name, us in int8_us.items() if name in back}
    return tuple(
        LayerTimes(
            layer=layer.name,
            op=layer.op,
            float_us=float_us.get(layer.name),
            int8_us=int8_us.get(layer.name),
            slower_in_int8=_is_slower(float_us.get(layer.name), int8_us.get(layer.name)),
        )
        for layer in float_names.layers
    )


def _is_slower(float_us: float | None, int8_us: float | None) -> bool:
    if float_us is None or int8_us is None:
        return False
    return int8_us > SLOWER_FACTOR * float_us and int8_us - float_us > SLOWER_US


def _by_layer(profile: ModelProfile) -> dict[str, float]:
    found: dict[str, float] = {}
    for operator in profile.operators:
        if operator.layer is not None:
            found[operator.layer] = found.get(operator.layer, 0.0) + operator.us
    return found


def _record(models: tuple[Profiled, Profiled], provider: str, threads: int) -> list[list[tuple[str, str, list[int]]]]:
    """Run both models in turns under the profiler; return name, type and times in microseconds of each operator."""
    with tempfile.TemporaryDirectory(prefix="edgecnn-profile-") as folder:
        sessions = [
            open_inference_session(
                each.model,
                model_name=each.name,
                provider=provider,
                threads=threads,
                profile_prefix=str(Path(folder) / f"{index}"),
            )
            for index, each in enumerate(models)
        ]
        calls = [
            partial(session.run, None, {session.get_inputs()[0].name: each.batch})
            for session, each in zip(sessions, models, strict=True)
        ]
        warmups = [warm_up(call) for call in calls]
        nodes = [len(ModelProto.FromString(each.model).graph.node) for each in models]
        runs = [_runs(warmup.call_us, count) for warmup, count in zip(warmups, nodes, strict=True)]
        for _ in range(TURNS):
            for call, count in zip(calls, runs, strict=True):
                for _ in range(count // TURNS):
                    call()
        files = [Path(session.end_profiling()) for session in sessions]
        return [
            _read(file, each.name, skip=warmup.calls) for file, each, warmup in zip(files, models, warmups, strict=True)
        ]


def _runs(call_us: float, nodes: int) -> int:
    low, high = RUNS
    return int(np.clip(PROFILE_S * 1e6 / call_us, low, max(low, min(high, MAX_EVENTS // max(nodes, 1)))))


def _read(file: Path, model_name: str, *, skip: int) -> list[tuple[str, str, list[int]]]:
    """Return the operators of a trace in the order they run, without their first ``skip`` runs."""
    events = json.loads(file.read_text(encoding="utf-8"))
    found: dict[tuple[str, str], list[int]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            found.setdefault((name, _type(event)), []).append(event["dur"])
    if not found or any(len(times) <= skip for times in found.values()):
        raise StageError(
            f"bench: the profile of {model_name} holds {len(found)} operators, some without a run after the warm-up.",
            next_step="report it, with the version of onnxruntime",
        )
    return [(name, op, times[skip:]) for (name, op), times in found.items()]


def _type(event: dict[str, Any]) -> str:
    return str(event["args"]["op_name"])


def _summarize(operators: list[tuple[str, str, list[int]]], names: LayerNames) -> ModelProfile:
    times = [typical_us(each) for _, _, each in operators]
    total = sum(times)
    rows = []
    for (name, op, _), us in zip(operators, times, strict=True):
        layer = names.find(name, op)
        rows.append(
            OperatorTime(
                name=name,
                op=op,
                layer=None if layer is None else layer.name,
                overhead=op in OVERHEAD,
                us=us,
                share=us / total,
            )
        )
    overhead = sum(row.us for row in rows if row.overhead)
    return ModelProfile(
        operators=tuple(rows), total_us=total, overhead_us=overhead, runs=max(len(each) for _, _, each in operators)
    )


def typical_us(whole_us: list[int] | NDArray[np.int64]) -> float:
    """Return the median of times of which only the whole microseconds are known.

    An operator of 2 us shows 1, 2 or 3: the median of grouped data tells the rest by how many of each there are.
    """
    return median_grouped([int(each) for each in whole_us], interval=1) + 0.5  # the profiler rounds down
