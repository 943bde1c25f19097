"""The Python environments that targets run in: one row each."""

import platform
from dataclasses import replace

from edgecnn.targets.byte_input import cast_bytes_first, dequantize_bytes
from edgecnn.targets.file_version import require_readable
from edgecnn.targets.fixed_batch import fix_batch
from edgecnn.targets.float_layers import dequantize_float_layers
from edgecnn.targets.plugin import Plugin
from edgecnn.targets.python_environment import PythonEnvironment
from edgecnn.targets.qnn_failures import explaining
from edgecnn.targets.session import Clock
from edgecnn.targets.swiftshader import swiftshader_variables, why_no_swiftshader
from edgecnn.targets.webgpu_form import for_webgpu

_ARM64 = ("aarch64", "arm64", "ARM64")


def _not_linux() -> str | None:
    return None if platform.system() == "Linux" else f"needs Linux, this is {platform.system()}"


def _not_on_x86_linux() -> str | None:
    if platform.machine() != "x86_64":
        return f"its packages are for x86_64, this is {platform.machine()}"
    return _not_linux()


def for_htp(model: bytes) -> bytes:
    """Return a model as Qualcomm's compiler takes it: one image at a time, no bytes cast, no layer half in integers."""
    return dequantize_float_layers(dequantize_bytes(cast_bytes_first(fix_batch(model))))


def for_openvino(model: bytes) -> bytes:
    """Return a model as it is; the onnxruntime there is older (its limits were found by trying)."""
    return require_readable(model, runtime="onnxruntime-openvino 1.24.1", newest_opset=25, newest_ir=13)


def qnn_clock() -> Clock:
    """Return how QNN's backend answers on this machine: a Snapdragon has the HTP, x86 its simulator."""
    return "measured" if platform.machine() in _ARM64 else "simulated"


def _no_simulator() -> str | None:
    if platform.machine() != "x86_64":
        return f"the simulator is for x86_64, this is {platform.machine()}"
    return _not_linux()


def _htp(soc: str) -> str | None:
    return f"Qualcomm HTP of {soc}, simulated" if qnn_clock() == "simulated" else None


def _another(soc: str) -> str:
    return "qnn@sm8650" if soc == "SM8750" else "qnn@sm8750"


QNN = PythonEnvironment(
    name="qnn",
    title="Qualcomm QNN",
    pins=("onnxruntime==1.32.0", "onnxruntime-qnn==2.7.0"),
    adaptation=for_htp,
    obstacle=_not_linux,
    machine=_htp("SM8350 (v68)"),
    explanation=explaining(
        chip="SM8350 (HTP v68), the chip that qnn means" if qnn_clock() == "simulated" else "this chip",
        elsewhere="qnn@sm8650",
    ),
)
#: Qualcomm's number of a chip and the generation of its HTP, as the provider's options say it
#: (https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html).
SOCS: dict[str, dict[str, str]] = {
    "SM8550": {"soc_model": "43", "htp_arch": "73"},
    "SM8650": {"soc_model": "57", "htp_arch": "75"},
    "SM8750": {"soc_model": "69", "htp_arch": "79"},
}
QNN_ON = {
    soc: replace(
        QNN,
        machine=f"Qualcomm HTP of {soc} (v{told['htp_arch']}), simulated",
        obstacle=_no_simulator,
        explanation=explaining(chip=f"{soc} (HTP v{told['htp_arch']})", elsewhere=_another(soc)),
    )
    for soc, told in SOCS.items()
}
QNN_PLUGIN = Plugin(module="onnxruntime_qnn", paths={"backend_path": "get_qnn_htp_path"})

OPENVINO = PythonEnvironment(
    name="openvino",
    title="OpenVINO",
    pins=("onnxruntime-openvino==1.24.1",),
    adaptation=for_openvino,
    obstacle=_not_on_x86_linux,
)

WEBGPU = PythonEnvironment(
    name="webgpu",
    title="WebGPU on SwiftShader",
    pins=("onnxruntime==1.32.0", "onnxruntime-ep-webgpu==0.4.0"),
    adaptation=for_webgpu,
    obstacle=lambda: _not_on_x86_linux() or why_no_swiftshader(),
    variables=swiftshader_variables,
    machine="SwiftShader, a GPU in software",
)
WEBGPU_PLUGIN = Plugin(module="onnxruntime_ep_webgpu")

ENVIRONMENTS = (QNN, OPENVINO, WEBGPU)
