"""The two models that a benchmark opens, and what they are fed with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.tuning import RecommendationRecord
from edgecnn.pipeline.context import input_size, read_model
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.int8_choice import advising, read_int8
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.targets import Session, open_session, require
from edgecnn.targets.session_options import DEFAULT_SESSION


@dataclass(frozen=True, kw_only=True)
class Models:
    """The float model of a bundle and one of its int8 models, checked against its manifest, and something to feed them.

    Attributes:
        of_float: the ONNX file.
        of_int8: the other ONNX file.
        height: of an image.
        width: of an image.
        int8: the int8 model's name.
        recommendation: what a tuning recommends.
        cpu_nodes: how many of a model's nodes the CPU may run in place of each target's provider.
        advice: what to do where a target refuses the int8 model, by target; of none, what the failure says itself.
    """

    of_float: bytes
    of_int8: bytes
    height: int
    width: int
    int8: str = INT8_MODEL
    recommendation: RecommendationRecord | None = None
    cpu_nodes: Mapping[str, int] = field(default_factory=dict)
    advice: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        bundle: Bundle,
        int8: str = INT8_MODEL,
        *,
        cpu_nodes: Mapping[str, int] | None = None,
        advice: Mapping[str, str] | None = None,
    ) -> "Models":
        """Read float.onnx and an int8 model.

        Raises:
            BundleError: one is missing or was changed.
        """
        of_float = read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt")
        of_int8 = read_int8(bundle, int8)
        height, width = input_size(bundle, FLOAT_MODEL)
        return cls(
            of_float=of_float,
            of_int8=of_int8,
            height=height,
            width=width,
            int8=int8,
            recommendation=bundle.manifest.recommendation,
            cpu_nodes=cpu_nodes or {},
            advice=advice or {},
        )

    @property
    def names(self) -> tuple[str, str]:
        """Float first, then int8."""
        return FLOAT_MODEL, self.int8

    def open(self, name: str, target: str, threads: int) -> Session:
        """Open one of them on a target, int8 as its tuning there says."""
        session = self.int8_session(target) if name == self.int8 else DEFAULT_SESSION
        require(target)  # one that is not here is another matter than one that refuses the model
        with advising(self.advice.get(target) if name == self.int8 else None):
            return open_session(
                target,
                self.bytes_of(name),
                model_name=name,
                threads=threads,
                options_name=session,
                allow_cpu_nodes=self.cpu_nodes.get(target, 0),
            )

    def int8_session(self, target: str) -> str:
        """Return the row of the table of session options that a tuning of this very int8 recommends for a target."""
        found = self.recommendation
        if found is None or found.target != target or found.sha256 != sha256_bytes(self.of_int8):
            return DEFAULT_SESSION
        return found.configuration.session

    def bytes_of(self, name: str) -> bytes:
        """Return the file of that name."""
        return {FLOAT_MODEL: self.of_float, self.int8: self.of_int8}[name]

    def noise(self, batch: int, *, seed: int) -> NDArray[np.uint8]:
        """Return random uint8 pixels ``[batch, H, W, 3]``, the same on every machine."""
        shape = (batch, self.height, self.width, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
