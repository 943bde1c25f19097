"""What another Python runs: a model in, batches in, logits or times out.

It stands alone: the Python of another architecture or environment has only numpy and onnxruntime, no edgecnn. Frames
go over stdin and stdout, both ways alike::

    b"EDGE" | length of the header, u32 | length of the body, u64 | header, JSON | body, bytes

The worker greets first, then answers one frame with one frame until its stdin ends. ``EDGECNN_VERSIONS_OF`` names
distributions whose versions it tells as well, with spaces between them.
"""

import importlib
import json
import os
import struct
import tempfile
from pathlib import Path
from typing import IO, Any

MAGIC = b"EDGE"
PREFIX = struct.Struct("<4sIQ")
Header = dict[str, Any]
CPU_PROVIDER = "CPUExecutionProvider"


def pack(header: Header, body: bytes = b"") -> bytes:
    """Return one frame."""
    text = json.dumps(header).encode()
    return PREFIX.pack(MAGIC, len(text), len(body)) + text + body


def main() -> None:
    """Serve until stdin ends."""
    _leave_no_core_file()
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up between the frames
    _send(answers, _greeting())
    session = None
    while (received := _receive(requests)) is not None:
        header, body = received
        try:
            if header["do"] == "open":
                session, placement = _open_or_tell_why_not(body, header)
                _send(answers, placement)
            elif header["do"] == "context":
                session, written = _open_through_context(body, header)
                _send(answers, _placement(session), written)
            elif header["do"] == "count":
                _count(session, header, body)
                _send(answers, {})
            elif header["do"] == "time":
                _send(answers, {}, _time(session, header, body))
            else:
                logits = _run(session, header, body)
                _send(answers, {"shape": logits.shape}, logits.tobytes())
        except Exception as error:  # noqa: BLE001 - carried over to the process that asked, which raises
            lines = str(error).splitlines()
            _send(answers, {"error": lines[0] if lines else type(error).__name__})


def _leave_no_core_file() -> None:
    """QEMU writes one into the working folder when the program it runs crashes."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _greeting() -> Header:
    import platform
    from importlib.metadata import version

    import numpy
    import onnxruntime

    # numpy asks the CPU itself, so this is what the emulator shows to onnxruntime, too.
    from numpy._core._multiarray_umath import __cpu_features__ as features  # type: ignore[import-not-found]

    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count() or 1,
        "cpu": _cpu_name() or platform.processor() or platform.machine(),
        "load_average": os.getloadavg()[0],
        "features": sorted(name for name, present in features.items() if present),
        "versions": {
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "onnxruntime": onnxruntime.__version__,
            **{name: version(name) for name in os.environ.get("EDGECNN_VERSIONS_OF", "").split()},
        },
    }


def _cpu_name() -> str:
    """Return what Linux calls the CPU, or the board: arm64 kernels tell no model name."""
    for path, names in (("/proc/cpuinfo", ("model name", "Hardware")), ("/proc/device-tree/model", ("",))):
        try:
            lines = Path(path).read_text(errors="replace").splitlines()
        except OSError:
            continue
        told = next((line for line in lines if line.startswith(names)), "")
        if name := told.rpartition(":")[2].strip("\0 "):
            return name
    return ""


def _open_or_tell_why_not(model: bytes, header: Header) -> tuple[Any, Header]:
    """Open a model, or say which nodes the provider leaves to others, and open nothing."""
    import time

    started = time.perf_counter()
    try:
        session = _open(model, header)
    except Exception:
        if header.get("provider", CPU_PROVIDER) == CPU_PROVIDER or not header.get("strict", True):
            raise
        placement = _placement(_open(model, {**header, "strict": False}))
        if set(placement["nodes"]) == {header["provider"]}:
            raise  # it takes every node: something else is wrong
        return None, placement
    return session, {"open_us": (time.perf_counter() - started) * 1e6, **_placement(session)}


def _open(model: bytes, header: Header) -> Any:
    """Open a model on a provider and, unless that is asked for, on no other.

    ``options`` are the words of a row of the table of session options. ``strict`` forbids what ONNX Runtime would do
    of itself: to run on the CPU what the provider does not take.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = header["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    entries = {"session.record_ep_graph_assignment_info": "1", **header.get("entries", {})}
    if told := header.get("options"):
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, told["level"])
        entries |= told["entries"]
        for name, setting in told["attributes"].items():
            setattr(options, name, setting)
    provider = header.get("provider", CPU_PROVIDER)
    if provider != CPU_PROVIDER and header.get("strict", True):
        entries["session.disable_cpu_ep_fallback"] = "1"
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    if plugin := header.get("plugin"):
        # Named in providers=[...], a plugin's provider is passed over in silence.
        options.add_provider_for_devices(*_device(provider, plugin, header.get("provider_options", {})))
        session = onnxruntime.InferenceSession(model, options)
    else:
        providers = [(provider, header.get("provider_options", {}))]
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    session.disable_fallback()
    return session


def _device(provider: str, plugin: Header, provider_options: Header) -> tuple[list[Any], Header]:
    """Register a plugin's library, once, and return a device of it, a real one before a CPU, and its options.

    ``paths`` names functions of the plugin's module by the option that is given what they return.
    """
    import onnxruntime

    module = importlib.import_module(plugin["module"])
    offered = [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]
    if not offered:
        onnxruntime.register_execution_provider_library(provider, module.get_library_path())
        offered = [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]
    if not offered:
        raise RuntimeError(f"{plugin['module']} finds no device for {provider}")
    offered.sort(key=lambda device: str(device.device.type).endswith("CPU"))
    paths = {option: getattr(module, function)() for option, function in plugin["paths"].items()}
    return offered[:1], {**provider_options, **paths}


def _open_through_context(model: bytes, header: Header) -> tuple[Any, bytes]:
    """Have the provider write what it compiled, and open that: as a device would, without the model."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "context.onnx"
        told = {"ep.context_enable": "1", "ep.context_file_path": str(place), "ep.context_embed_mode": "1"}
        _open(model, {**header, "entries": told})
        written = place.read_bytes()
    return _open(written, header), written


def _placement(session: Any) -> Header:
    """Return how many nodes each provider runs, and of which operators, as the session itself says it."""
    nodes: dict[str, int] = {}
    operators: dict[str, set[str]] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        found = subgraph.get_nodes()
        nodes[subgraph.ep_name] = nodes.get(subgraph.ep_name, 0) + len(found)
        operators.setdefault(subgraph.ep_name, set()).update(node.op_type for node in found)
    return {"nodes": nodes, "operators": {name: sorted(kinds) for name, kinds in operators.items()}}


def _run(session: Any, header: Header, body: bytes) -> Any:
    """Run a batch; where the session's own is fixed and smaller, piece by piece."""
    import numpy

    batch = numpy.frombuffer(body, header["dtype"]).reshape(header["shape"])
    fixed = session.get_inputs()[0].shape[0]
    pieces = [batch]
    if isinstance(fixed, int) and len(batch) > fixed and len(batch) % fixed == 0:
        pieces = numpy.split(batch, len(batch) // fixed)
    logits = numpy.concatenate([session.run(None, {header["input"]: piece})[0] for piece in pieces])
    return numpy.ascontiguousarray(logits, "<f4")


def _time(session: Any, header: Header, body: bytes) -> bytes:
    """Return the microseconds of each of some calls, float64."""
    import gc
    import time

    import numpy

    feeds = {header["input"]: numpy.frombuffer(body, header["dtype"]).reshape(header["shape"])}
    times_ns = numpy.empty(header["calls"], numpy.int64)
    clock = time.perf_counter_ns
    gc.disable()
    try:
        for call in range(header["calls"]):
            started = clock()
            session.run(None, feeds)
            times_ns[call] = clock() - started
    finally:
        gc.enable()
    return (times_ns / 1e3).astype("<f8").tobytes()


def _count(session: Any, header: Header, body: bytes) -> None:
    """Mark the beginning and end of nothing, 0 and 1, and of calls, 2 and 3, for the plugin that counts."""
    import gc

    import numpy

    feeds = {header["input"]: numpy.frombuffer(body, header["dtype"]).reshape(header["shape"])}
    for _ in range(header["warmup"]):
        session.run(None, feeds)
    gc.disable()
    try:
        for _ in range(header["calls"]):
            _mark(0)
            _mark(1)
        for _ in range(header["calls"]):
            _mark(2)
            session.run(None, feeds)
            _mark(3)
    finally:
        gc.enable()


def _mark(kind: int) -> None:
    """Call what the plugin listens for; there is no such process."""
    try:
        os.getpgid(0x5EED0000 + kind)
    except OSError:
        return


def _send(stream: IO[bytes], header: Header, body: bytes = b"") -> None:
    stream.write(pack(header, body))
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[Header, bytes] | None:
    prefix = stream.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    _, header_bytes, body_bytes = PREFIX.unpack(prefix)
    return json.loads(stream.read(header_bytes)), stream.read(body_bytes)


if __name__ == "__main__":
    main()
