"""Run the models of this folder and hold their answers against the expected ones.

    python accept.py [FOLDER] [MODEL ...]

Needs numpy and onnxruntime, and what else ``requires`` in acceptance.json names. Exits 0 if every model passes, 1 if
one fails, also because a node of it runs elsewhere than on the provider, and 2 if something is missing.
"""

import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

CPU = "CPUExecutionProvider"


def answers(session: Any, entry: dict[str, Any], images: Any) -> Any:
    """Return the logits of all images, float32 ``[N, classes]``, in calls of the model's batch."""
    size = entry["batch"]
    calls = [images[start : start + size] for start in range(0, len(images), size)]
    return np.concatenate([session.run([entry["output"]], {entry["input"]: batch})[0] for batch in calls])


def read(path: Path, dtype: str, shape: list[int]) -> Any:
    """Return the values of a file: little-endian, in order, and nothing else."""
    return np.frombuffer(path.read_bytes(), np.dtype(dtype).newbyteorder("<")).reshape(shape)


def missing(what: str, told: dict[str, Any]) -> SystemExit:
    """Return the end of this program where what runs the models is not here."""
    print(f"{what}: pip install {' '.join(told['requires'])} numpy", file=sys.stderr)
    return SystemExit(2)


def device(provider: str, told: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """Register the library of a plugin's provider, and return a device of it, a real one before a CPU, and options."""
    plugin = told["plugin"]
    try:
        module = importlib.import_module(plugin["module"])
    except ImportError as error:
        raise missing(str(error), told) from error
    offered = [one for one in onnxruntime.get_ep_devices() if one.ep_name == provider]
    if not offered:
        onnxruntime.register_execution_provider_library(provider, module.get_library_path())
        offered = [one for one in onnxruntime.get_ep_devices() if one.ep_name == provider]
    if not offered:
        raise missing(f"{plugin['module']} finds no device for {provider}", told)
    offered.sort(key=lambda one: str(one.device.type).endswith("CPU"))
    paths = {option: getattr(module, function)() for option, function in plugin["paths"].items()}
    return offered[:1], {**told["provider_options"], **paths}


def opened(data: bytes, provider: str, told: dict[str, Any]) -> Any:
    """Open a model on a provider, and on no other unless the package allows the CPU some nodes."""
    options = onnxruntime.SessionOptions()
    if provider != CPU:
        options.log_severity_level = 4  # what goes wrong is raised; some providers write pages beside it
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if not told["allow_cpu_nodes"]:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if provider != CPU and told["plugin"]:
        # Named in providers=[...], a plugin's provider is passed over in silence.
        options.add_provider_for_devices(*device(provider, told))
        session = onnxruntime.InferenceSession(data, options)
    else:
        if provider not in onnxruntime.get_available_providers():
            raise missing(f"this onnxruntime has no {provider}", told)
        own = {} if provider == CPU else told["provider_options"]
        session = onnxruntime.InferenceSession(data, options, providers=[(provider, own)])
    session.disable_fallback()
    return session


def elsewhere(session: Any, provider: str, told: dict[str, Any]) -> str:
    """Return which nodes others run than were asked for, read from the session itself; empty if it is as it must be."""
    if provider == CPU:
        return ""
    found: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        found[part.ep_name] = found.get(part.ep_name, 0) + len(part.get_nodes())
    strangers = {name: count for name, count in found.items() if name != provider}
    allowed = sum(strangers.values()) <= told["allow_cpu_nodes"] and not set(strangers) - {CPU}
    return "" if found.get(provider) and allowed else f"nodes run elsewhere than on {provider}: {found}"


def difference(folder: Path, entry: dict[str, Any], told: dict[str, Any]) -> tuple[float, str]:
    """Return the largest difference of a logit from the expected one, infinite if none can be told, and why then."""
    data = (folder / entry["file"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        return float("inf"), "is not the file that was packed"
    try:
        session = opened(data, entry["provider"], told)
    except Exception as error:  # noqa: BLE001 - onnxruntime's have no other parent; the model has failed
        return float("inf"), f"{entry['provider']} does not open it wholly: {str(error).splitlines()[0][:300]}"
    if why := elsewhere(session, entry["provider"], told):
        return float("inf"), why
    found = answers(session, entry, read(folder / entry["images"], entry["input_type"], entry["input_shape"]))
    expected = read(folder / entry["logits"], "float32", entry["output_shape"])
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf"), "its answers are no logits"
    return float(np.abs(found - expected).max()), ""


def main(arguments: list[str]) -> int:
    """Check every model, or those that are named."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    told = json.loads((folder / "acceptance.json").read_text())
    print(f"onnxruntime {onnxruntime.__version__}; the package is for {', '.join(told['requires'])}")
    chosen = [entry for entry in told["models"] if not arguments[1:] or entry["file"] in arguments[1:]]
    if not chosen:
        print("no such model")
        return 2
    failed = 0
    for entry in chosen:
        worst, why = difference(folder, entry, told)
        passed = worst <= entry["tolerance"]
        failed += not passed
        print(
            f"{'passed' if passed else 'FAILED'}  {entry['file']}: "
            f"largest difference {worst:.3g}, allowed {entry['tolerance']:.3g}{f' ({why})' if why else ''}"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
