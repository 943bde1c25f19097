"""From a configuration to a file, and what that file loses: made once, judged once, refused with a reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgecnn.bundle.tuning import Form
from edgecnn.errors import ModelError, UsageError
from edgecnn.quantization.judge import Judge, Logits
from edgecnn.quantization.recipes import Recipe
from edgecnn.quantization.static import Quantized
from edgecnn.stats import Comparison
from edgecnn.tuning.candidate import Candidate

#: Of the images held apart, how many a rewrite may put into another class: integers round ties by the order of sums.
MAX_FLIPS = 0.001


class Rewriter(Protocol):
    """What :mod:`edgecnn.rewriting` can do."""

    def rewrite(self, data: bytes, names: Sequence[str], *, name: str) -> tuple[bytes, tuple[str, ...]]:
        """Return the rewritten file, and why it was not rewritten where it was not at all."""

    def plans(self, data: bytes, *, form: Form) -> tuple[tuple[str, ...], ...]:
        """Return sensible combinations of rewrites: none first, the most promising second."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A file that a candidate describes.

    Attributes:
        candidate: which.
        data: the ONNX file.
        plain: the same before its rewrites.
        float_layers: of the file: names of layers that stayed float.
        drop_pp: top-1 lost against the stock float model on images held apart; None where only its time is of interest.
    """

    candidate: Candidate
    data: bytes
    plain: bytes
    float_layers: tuple[str, ...]
    drop_pp: Comparison | None


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A candidate that is not tried, and why."""

    candidate: Candidate
    reason: str


@dataclass(kw_only=True)
class Maker:
    """Makes candidates of one float model; what was made before is not made again.

    Attributes:
        model: the float ONNX file.
        quantize: makes int8 by a recipe.
        judge: on images held apart from those that set the ranges.
        rewriter: rewrites graphs.
    """

    model: bytes
    quantize: Callable[[Recipe], Quantized]
    judge: Judge
    rewriter: Rewriter
    _quantized: dict[Recipe, Quantized] = field(default_factory=dict)
    _files: dict[object, bytes] = field(default_factory=dict)
    _answers: dict[bytes, Logits] = field(default_factory=dict)

    def make(self, candidate: Candidate, *, judged: bool = True) -> Made | Refused:
        """Return the file of a candidate, or why there is none.

        Args:
            candidate: which.
            judged: whether its accuracy is of interest.
        """
        try:
            data = self._file(candidate)
            drop_pp = self._drop(candidate, data) if judged else None
        except (ModelError, UsageError) as error:  # the recipe or a rewrite does not fit this network
            return Refused(candidate=candidate, reason=error.message)
        except _DoesNotFit as reason:
            return Refused(candidate=candidate, reason=str(reason))
        layers = () if candidate.recipe is None else self._int8(candidate.recipe).float_layers
        plain = self._base(candidate)
        return Made(candidate=candidate, data=data, plain=plain, float_layers=layers, drop_pp=drop_pp)

    def plans(self, recipe: Recipe | None) -> tuple[tuple[str, ...], ...]:
        """Return the combinations of rewrites for float or for int8 by a recipe, without the empty one."""
        base = Candidate(recipe=recipe)
        return tuple(plan for plan in self.rewriter.plans(self._base(base), form=base.form) if plan)

    def _file(self, candidate: Candidate) -> bytes:
        if candidate.file not in self._files:
            data = self._base(candidate)
            if candidate.rewrites:
                data, why_not = self.rewriter.rewrite(data, candidate.rewrites, name=candidate.name)
                if why_not:
                    raise _DoesNotFit(f"no rewrite applies: {'; '.join(why_not)}")
            self._files[candidate.file] = data
        return self._files[candidate.file]

    def _base(self, candidate: Candidate) -> bytes:
        """Return the file before it is rewritten."""
        return self.model if candidate.recipe is None else self._int8(candidate.recipe).data

    def _int8(self, recipe: Recipe) -> Quantized:
        if recipe not in self._quantized:
            self._quantized[recipe] = self.quantize(recipe)
        return self._quantized[recipe]

    def _drop(self, candidate: Candidate, data: bytes) -> Comparison:
        answers = self._answer(data)
        if candidate.rewrites:
            _require_same(self._answer(self._base(candidate)), answers)
        return self.judge.judge_answers(answers).drop_pp

    def _answer(self, data: bytes) -> Logits:
        if data not in self._answers:
            self._answers[data] = self.judge.answers(data)
        return self._answers[data]


class _DoesNotFit(Exception):  # noqa: N818 - caught where it is raised from
    """Why a candidate is refused."""


def _require_same(before: Logits, after: Logits) -> None:
    flips = int((before.argmax(1) != after.argmax(1)).sum())
    if flips > MAX_FLIPS * len(before):
        largest = float(np.abs(before - after).max())
        raise _DoesNotFit(
            f"rewritten, it puts {flips} of {len(before):,} images into another class (logits differ by up to "
            f"{largest:.3g}); at most {MAX_FLIPS:.1%} may"
        )
