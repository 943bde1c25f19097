"""SwiftShader, the GPU in software that Chromium brings: Vulkan on any CPU."""

import os
from collections.abc import Mapping
from pathlib import Path

#: Where Debian, Fedora and Google put Chromium's files; $EDGECNN_SWIFTSHADER names another folder.
FOLDERS = ("/usr/lib/chromium", "/usr/lib64/chromium-browser", "/opt/google/chrome")
VARIABLE = "EDGECNN_SWIFTSHADER"
_DRIVER = "vk_swiftshader_icd.json"
_NEEDED = (_DRIVER, "libvk_swiftshader.so", "libvulkan.so.1")


def swiftshader_folder() -> Path | None:
    """Return the folder with SwiftShader and Vulkan's loader, or None."""
    named = os.environ.get(VARIABLE)
    for folder in [named] if named else FOLDERS:
        if all((Path(folder) / name).is_file() for name in _NEEDED):
            return Path(folder)
    return None


def why_no_swiftshader() -> str | None:
    """Return why there is no GPU in software here, or None."""
    if swiftshader_folder() is not None:
        return None
    looked = os.environ.get(VARIABLE) or ", ".join(FOLDERS)
    return f"no {' and '.join(_NEEDED)} (Chromium's) in {looked}"


def swiftshader_variables() -> Mapping[str, str]:
    """Return what makes Vulkan, and ONNX Runtime's WebGPU provider, take the GPU in software."""
    folder = swiftshader_folder()
    if folder is None:
        return {}
    paths = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(paths),
        "VK_ICD_FILENAMES": str(folder / _DRIVER),
        "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1",
    }
