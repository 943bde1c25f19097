"""What int8 costs, on images held apart from those that set the ranges and from the test set."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.images import Images
from edgecnn.errors import DataError, StageError
from edgecnn.stats import Comparison, paired_drop
from edgecnn.targets import Session, reference_session
from edgecnn.targets.session import feed

BATCH_SIZE = 32
Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A quantized model against float.

    Attributes:
        drop_pp: top-1 lost, in percentage points, with its 95% interval.
        sqnr_db: power of float's logits over that of their difference, in decibels; infinite if they are equal.
        agreement: fraction of images that both put into the same class.
    """

    drop_pp: Comparison
    sqnr_db: float
    agreement: float


class Judge:
    """Compares quantized models with one float model, which is run once."""

    def __init__(self, float_data: bytes, images: Images, *, threads: int) -> None:
        """Run the float model.

        Args:
            float_data: the float ONNX file.
            images: labelled, of the model's size.
            threads: for ONNX Runtime.

        Raises:
            DataError: there are no images, or the model has another number of classes.
            StageError: the model gives NaN or infinite logits.
        """
        if not len(images):
            raise DataError("quantize: there are no images to judge on.", next_step="--held-out 5000")
        self.images, self._threads = images, threads
        self._logits = self._run(float_data, "the float model")
        self._right = self._logits.argmax(1) == images.labels

    def __call__(self, data: bytes) -> Judgement:
        """Run a quantized model on the same images.

        Raises:
            DataError: it has another number of classes.
            StageError: it gives NaN or infinite logits.
        """
        return self.judge_answers(self.answers(data))

    def answers(self, data: bytes) -> Logits:
        """Return a model's logits float32 ``[N, classes]`` on the images; raises as :meth:`__call__`."""
        return self._run(data, "the quantized model")

    def judge_answers(self, logits: Logits) -> Judgement:
        """Judge answers to the images, float32 ``[N, classes]``."""
        drop = paired_drop(self._right, logits.argmax(1) == self.images.labels)
        return Judgement(
            drop_pp=Comparison(delta=100 * drop.delta, low=100 * drop.low, high=100 * drop.high),
            sqnr_db=sqnr_db(self._logits, logits),
            agreement=float((logits.argmax(1) == self._logits.argmax(1)).mean()),
        )

    def _run(self, data: bytes, name: str) -> Logits:
        session = reference_session(data, model_name=name, threads=self._threads)
        size = session.input.shape[0] if isinstance(session.input.shape[0], int) else BATCH_SIZE
        logits = np.concatenate([self._batch(session, start, size) for start in range(0, len(self.images), size)])
        expected = (len(self.images), len(self.images.classes))
        if logits.shape != expected:
            raise DataError(
                f"quantize: {name} gives {list(logits.shape)} for {expected[0]} images of {expected[1]} classes.",
                next_step="give the images the model was trained for with --data",
            )
        if not np.isfinite(logits).all():  # a ratio of NaN would else be taken for no noise at all
            raise StageError(
                f"quantize: {name} gives NaN or infinite logits on the images held apart.",
                next_step="try another recipe: edgecnn quantize --recipe u8s8-perchannel-minmax-reduced",
            )
        return logits

    def _batch(self, session: Session, start: int, size: int) -> Logits:
        n = len(self.images)
        chosen = np.arange(start, start + size)
        new = int((chosen < n).sum())
        if not isinstance(session.input.shape[0], int):
            chosen = chosen[:new]
        return session.run(feed(self.images.pixels[chosen % n], session.input))[:new]


def sqnr_db(signal: NDArray[np.floating], noisy: NDArray[np.floating]) -> float:
    """Return the signal-to-quantization-noise ratio in decibels; infinite without noise, 0 for all-zero signals."""
    power = float(np.square(signal, dtype=np.float64).sum())
    return decibels(power, float(np.square(noisy.astype(np.float64) - signal).sum()))


def decibels(power: float, noise: float) -> float:
    """Return a ratio of powers in decibels; infinite without noise, 0 without a signal."""
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(power / noise)) if power else 0.0
