"""Any ONNX model against its simplified form, on inputs made up to fit: several of them, of any type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.errors import ParityError, StageError
from edgecnn.graph.activations import onnx_activations
from edgecnn.graph.bisection import LayerLedger, compare_layers
from edgecnn.graph.made_up_inputs import Array, Feeds, batch_varies, make_up_inputs
from edgecnn.graph.parity import TOLERANCE
from edgecnn.graph.simplify import NAME, Comparison
from edgecnn.targets.native import CPU_PROVIDER, open_inference_session
from edgecnn.targets.ort_errors import ort_errors


@dataclass(frozen=True, kw_only=True)
class TensorParity:
    """How two models compared.

    Attributes:
        n_runs: sets of inputs that were tried.
        outputs: how many outputs were compared.
        batch_sizes: of the inputs whose first dimension may vary; empty if none may.
        max_relative_difference: of a value, as a fraction of the largest of its output.
        tolerance: what was allowed.
    """

    n_runs: int
    outputs: int
    batch_sizes: tuple[int, ...]
    max_relative_difference: float
    tolerance: float


def compare_on_tensors(data: bytes, shapes: Mapping[str, tuple[int, ...]], name: str) -> Comparison[TensorParity]:
    """Return a comparison with a model on photographs, noise, zeros and extremes.

    Args:
        data: the ONNX file before it is simplified.
        shapes: of inputs with a dimension, other than the first, that may vary.
        name: what to call the model in a message.

    Raises:
        ModelError: ONNX Runtime cannot load the model, or it takes what cannot be made up.
        UsageError: an input's shape is not known, or there is no such input.
    """
    session = _open(data, name)
    feeds = make_up_inputs(session, shapes, name)
    expected = [_run(session, feed, name) for feed in feeds]
    sizes = tuple(sorted({len(next(iter(feed.values()))) for feed in feeds})) if batch_varies(session) else ()

    def verify(simplified: bytes) -> TensorParity:
        new = _open(simplified, NAME)
        worst = max(
            _compare(_run(new, feed, NAME), outputs, index, name)
            for index, (feed, outputs) in enumerate(zip(feeds, expected, strict=True))
        )
        return TensorParity(
            n_runs=len(feeds),
            outputs=len(expected[0]),
            batch_sizes=sizes,
            max_relative_difference=worst,
            tolerance=TOLERANCE,
        )

    def explain(simplified: bytes, error: ParityError | None) -> LayerLedger:
        feed = feeds[error.images[0]] if error is not None and error.images else feeds[-1]
        return compare_layers(onnx_activations(data, feed, name), onnx_activations(simplified, feed, NAME), TOLERANCE)

    return Comparison(verify=verify, explain=explain)


def _open(data: bytes, name: str) -> Any:
    return open_inference_session(data, model_name=name, provider=CPU_PROVIDER, threads=1)


def _run(session: Any, feed: Feeds, name: str) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, (np.asarray(value) for value in session.run(names, dict(feed))), strict=True))
    except ort_errors() as error:
        shapes = {key: list(value.shape) for key, value in feed.items()}
        raise StageError(
            f"{name}: ONNX Runtime failed while running it on {shapes} ({str(error).splitlines()[0]}).",
            next_step="say what it takes with --input-shape NAME:1x3x224x224",
        ) from error


def _compare(found: dict[str, Array], expected: dict[str, Array], index: int, name: str) -> float:
    """Return the largest relative difference of any output.

    Raises:
        ParityError: one differs by more than the tolerance, or is of another kind.
    """
    worst = 0.0
    for output, values in expected.items():
        other = found.get(output)
        if other is None or (other.shape, other.dtype) != (values.shape, values.dtype):
            what = "nothing" if other is None else f"{other.dtype} {list(other.shape)}"
            raise _differ(f"output {output!r} is {what} instead of {values.dtype} {list(values.shape)}", index, name)
        relative = _relative(other, values)
        if not relative <= TOLERANCE:
            raise _differ(
                f"output {output!r} by {relative:.1e} of its largest value, allowed {TOLERANCE:.0e}", index, name
            )
        worst = max(worst, relative)
    return worst


def _relative(found: Array, expected: Array) -> float:
    """Return the largest difference as a fraction of the largest value; NaN and infinity must stand in both."""
    if not np.issubdtype(expected.dtype, np.floating):
        return 0.0 if np.array_equal(found, expected) else float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    difference = np.abs(found[finite].astype(np.float64) - expected[finite].astype(np.float64)).max()
    return float(difference / max(float(np.abs(expected[finite]).max()), float(np.finfo(np.float32).tiny)))


def _differ(what: str, index: int, name: str) -> ParityError:
    return ParityError(
        f"simplify: the simplified model and {name} differ: {what}. Nothing was written.",
        next_step="report it with the model: this is a defect of the simplifier",
        images=(index,),
    )
