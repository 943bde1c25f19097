"""Models opened with the onnxruntime installed here, on one provider and no other."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.errors import ModelError, StageError, TargetError
from edgecnn.targets.ort_errors import ort_errors
from edgecnn.targets.placement import CPU_PROVIDER as CPU_PROVIDER
from edgecnn.targets.placement import require_provider
from edgecnn.targets.session import Clock, Feed
from edgecnn.targets.session_options import DEFAULT_SESSION, session_options

if TYPE_CHECKING:
    from onnx import ModelProto

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}
#: In an .ort file, the flatbuffer's identifier.
_ORT_FORMAT = b"ORTM"
_SILENT_LOG = 4  # fatal only: what goes wrong is raised, and warnings would soil stderr


def missing_provider(provider: str) -> str | None:
    """Return why a provider cannot run here, or None if it can."""
    import onnxruntime

    if provider in onnxruntime.get_available_providers():
        return None
    return f"onnxruntime {onnxruntime.__version__} as installed has no {provider}"


def open_inference_session(
    model: bytes,
    *,
    model_name: str,
    provider: str,
    threads: int,
    optimize: bool = True,
    weights: Mapping[str, bytes] | None = None,
    profile_prefix: str | None = None,
    options_name: str = DEFAULT_SESSION,
    strict: bool = True,
) -> Any:
    """Open an ``onnxruntime.InferenceSession`` that fails where ONNX Runtime would fall back.

    Args:
        model: the ONNX file.
        model_name: what to call it in a message.
        provider: ONNX Runtime's name of the execution provider.
        threads: for its operators.
        optimize: whether ONNX Runtime may fuse and rewrite nodes.
        weights: the files that the model keeps weights in, by name; no other file is opened.
        profile_prefix: where ONNX Runtime's profiler writes; None to leave it off, for it slows every node down.
        options_name: row of the table of session options.
        strict: whether a node that ``provider`` does not take is an error; if not, the CPU runs it.

    Raises:
        UsageError: there is no such row.
        TargetError: some node would run on the CPU instead of ``provider``.
        ModelError: ONNX Runtime cannot load the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT_LOG
    session_options(options_name).apply(options)
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    if weights:
        sizes_bytes = [len(content) for content in weights.values()]
        options.add_external_initializers_from_files_in_memory(list(weights), list(weights.values()), sizes_bytes)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider != CPU_PROVIDER and strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[provider])
    except ort_errors() as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if provider != CPU_PROVIDER:
            # Where the model itself is at fault, the CPU refuses it too, and says so.
            open_inference_session(model, model_name=model_name, provider=CPU_PROVIDER, threads=threads)
            raise TargetError(
                f"{model_name}: {provider} does not run the whole model ({reason}).",
                next_step="run it on cpu, or change the layers it does not take",
            ) from error
        raise ModelError(
            f"{model_name}: ONNX Runtime cannot load it ({reason}).",
            next_step="export it again with a current exporter",
        ) from error
    session.disable_fallback()
    return session


def run_every_tensor(
    model: "ModelProto", feeds: Mapping[str, NDArray[Any]], *, model_name: str
) -> dict[str, NDArray[Any]]:
    """Run a model on the CPU with nothing fused and return what each of its nodes gives, by name.

    Args:
        model: anything ONNX Runtime takes.
        feeds: a value for each input.
        model_name: what to call it in a message.

    Raises:
        ModelError: ONNX Runtime cannot load it with every tensor as an output.
        StageError: ONNX Runtime failed while running it.
    """
    import onnx

    names = [output for node in model.graph.node for output in node.output if output]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = open_inference_session(
        watched.SerializeToString(), model_name=model_name, provider=CPU_PROVIDER, threads=1, optimize=False
    )
    try:
        values = session.run(names, dict(feeds))
    except ort_errors() as error:
        raise StageError(
            f"{model_name}: ONNX Runtime failed while running it ({error}).",
            next_step="export the model again, and report it if that does not help",
        ) from error
    return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


class NativeSession:
    """A session of the installed onnxruntime; see :class:`edgecnn.targets.session.Session`."""

    def __init__(
        self,
        model: bytes,
        *,
        model_name: str,
        provider: str,
        clock: Clock,
        threads: int,
        weights: Mapping[str, bytes] | None = None,
        options_name: str = DEFAULT_SESSION,
        allow_cpu_nodes: int = 0,
    ) -> None:
        self._session = open_inference_session(
            model,
            model_name=model_name,
            provider=provider,
            threads=threads,
            weights=weights,
            options_name=options_name,
            strict=not allow_cpu_nodes,
        )
        self._model_name = model_name
        self.clock: Clock = clock
        self.input = _only(self._session.get_inputs(), model_name, "input")
        self.output = _only(self._session.get_outputs(), model_name, "output")
        self.nodes_by_provider: dict[str, int] = Counter()
        for subgraph in self._session.get_provider_graph_assignment_info():
            self.nodes_by_provider[subgraph.ep_name] += len(subgraph.get_nodes())
        if provider != CPU_PROVIDER or model[4:8] != _ORT_FORMAT:
            # Of an .ort file nothing is told; where the CPU alone was asked for, nothing else is there to run it.
            require_provider(self.nodes_by_provider, provider, allow_cpu_nodes, name=model_name)

    def run(self, batch: Feed) -> NDArray[np.float32]:
        """Map a batch to logits float32 ``[N, classes]``.

        Raises:
            StageError: ONNX Runtime failed while running.
        """
        try:
            (logits,) = self._session.run(None, {self.input.name: batch})
        except ort_errors() as error:
            raise StageError(
                f"{self._model_name}: ONNX Runtime failed while running it ({error}).",
                next_step="export the model again, and report it if that does not help",
            ) from error
        result: NDArray[np.float32] = logits
        return result

    def bind(self, batch: Feed) -> "BoundCall":
        """Return a call that runs the model on buffers bound once: ``batch``, and one for the logits.

        Raises:
            StageError: ONNX Runtime failed while running.
        """
        logits = self.run(batch)  # tells the shape, and that it runs
        return BoundCall(self._session, (self.input.name, batch), (self.output.name, np.empty_like(logits)))


class BoundCall:
    """Runs a session through IOBinding; reads the same input and writes the same output each time."""

    def __init__(
        self, session: Any, source: tuple[str, NDArray[Any]], destination: tuple[str, NDArray[np.float32]]
    ) -> None:
        import onnxruntime

        self._output = onnxruntime.OrtValue.ortvalue_from_numpy(destination[1])
        self._binding = session.io_binding()
        self._binding.bind_cpu_input(*source)
        self._binding.bind_ortvalue_output(destination[0], self._output)
        self._run = session.run_with_iobinding

    def __call__(self) -> None:
        """Run the model once."""
        self._run(self._binding)

    def logits(self) -> NDArray[np.float32]:
        """Return float32 ``[N, classes]`` as the last call left them."""
        copied: NDArray[np.float32] = self._output.numpy()
        return copied


def _only(arguments: list[Any], model_name: str, kind: str) -> TensorSpec:
    """Return the only input or output."""
    if len(arguments) != 1:
        names = ", ".join(argument.name for argument in arguments)
        raise ModelError(
            f"{model_name}: expected one {kind}, found {len(arguments)}: {names}.",
            next_step="give a classifier: one image in, one tensor of logits out",
        )
    argument = arguments[0]
    return TensorSpec(
        name=argument.name,
        dtype=_DTYPES.get(argument.type, argument.type),
        shape=tuple("?" if dimension is None else dimension for dimension in argument.shape),
    )
