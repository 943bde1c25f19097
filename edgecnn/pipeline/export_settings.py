"""What a user says of a network and its pictures when exporting it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import JsonValue

from edgecnn.errors import InputError, UsageError

if TYPE_CHECKING:
    from edgecnn.graph.deployed import Preprocessing

InputType = Literal["float32", "uint8"]
InputLayout = Literal["nchw", "nhwc"]
Channels = Literal["rgb", "bgr"]
INPUT_TYPES: dict[str, InputType] = {"float32": "float32", "uint8": "uint8"}
INPUT_LAYOUTS: dict[str, InputLayout] = {"nchw": "nchw", "nhwc": "nhwc"}
CHANNELS: dict[str, Channels] = {"rgb": "rgb", "bgr": "bgr"}
MAX_SIDE = 8192
OPSETS = range(13, 24)


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How a network is exported; None leaves what the checkpoint says, or the stated default.

    Attributes:
        architecture: of a plain state_dict: a row of the model table, ``torchvision:NAME`` or
            ``package.module:factory``.
        allow_pickle: whether the file may run code when it is read.
        batch: a fixed batch size, or None for one that may vary.
        opset: of the ONNX file, or None for the oldest that needs no converting.
        input_type: ``float32`` pixels in [0, 1], or ``uint8``.
        input_layout: ``nchw`` or ``nhwc``.
        input_size: height and width of the pictures that are fed; default: the network's own.
        resize: height and width that the network wants, if pictures are fed at another size.
        mean: of each channel after scaling; default 0.
        std: of each channel after scaling; default 1.
        scale: of a pixel 0 to 255; default 1/255.
        channels: the network's channel order; default ``rgb``.
        labels: class names, in the order of the logits.
    """

    architecture: str | None = None
    allow_pickle: bool = False
    batch: int | None = None
    opset: int | None = None
    input_type: InputType = "float32"
    input_layout: InputLayout = "nchw"
    input_size: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    channels: Channels | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise UsageError(
                f"export: --batch must be at least 1, found {self.batch}.",
                next_step="--batch 1, or leave it out for a batch that may vary",
            )
        if self.opset is not None and self.opset not in OPSETS:
            raise UsageError(
                f"export: --opset must lie in {OPSETS.start}..{OPSETS.stop - 1}, found {self.opset}.",
                next_step="leave it out for opset 18",
            )
        if self.std is not None and not all(value > 0 for value in self.std):
            raise UsageError(f"export: --std must be above 0, found {self.std}.", next_step="--std 1,1,1")

    def preprocessing(self, mean: tuple[float, ...], std: tuple[float, ...]) -> "Preprocessing":
        """Return the preprocessing, with the checkpoint's normalization where none was said."""
        from edgecnn.graph.deployed import BYTE_MAX, Preprocessing

        return Preprocessing(
            mean=self.mean or mean,
            std=self.std or std,
            scale=self.scale if self.scale is not None else 1 / BYTE_MAX,
            channels=self.channels or "rgb",
            resize=self.resize,
            input_type=self.input_type,
            input_layout=self.input_layout,
        )

    def recorded(self) -> dict[str, JsonValue]:
        """Return what decides the graph, as it stands in the manifest; what was left out is not in it."""
        said: dict[str, JsonValue] = {
            "batch": self.batch,
            "input_type": self.input_type,
            "input_layout": self.input_layout,
        }
        others = {
            "opset": self.opset,
            "input_size": self.input_size,
            "resize": self.resize,
            "mean": self.mean,
            "std": self.std,
            "scale": self.scale,
            "channels": self.channels,
            "labels": self.labels,
        }
        for name, value in others.items():
            if value is not None:
                said[name] = list(value) if isinstance(value, tuple) else value
        return said


def parse_type(text: str) -> InputType:
    """Return an input type, or raise a UsageError that lists them."""
    if text not in INPUT_TYPES:
        raise _unknown("--input-type", INPUT_TYPES, text)
    return INPUT_TYPES[text]


def parse_layout(text: str) -> InputLayout:
    """Return an input layout, or raise a UsageError that lists them."""
    if text not in INPUT_LAYOUTS:
        raise _unknown("--input-layout", INPUT_LAYOUTS, text)
    return INPUT_LAYOUTS[text]


def parse_channels(text: str | None) -> Channels | None:
    """Return a channel order, or raise a UsageError that lists them."""
    if text is not None and text not in CHANNELS:
        raise _unknown("--channels", CHANNELS, text)
    return None if text is None else CHANNELS[text]


def parse_image_size(option: str, text: str | None) -> tuple[int, int] | None:
    """Return height and width from ``224`` or ``480x640``.

    Raises:
        UsageError: it is not a size.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(part.isdecimal() and 0 < int(part) <= MAX_SIDE for part in parts):
        return int(parts[0]), int(parts[-1])
    raise UsageError(
        f"{option}: expected HEIGHTxWIDTH up to {MAX_SIDE}, found {text!r}.", next_step=f"{option} 224x224"
    )


def parse_triple(option: str, text: str | None) -> tuple[float, ...] | None:
    """Return three numbers from ``0.485,0.456,0.406``, or one for all channels.

    Raises:
        UsageError: they are not numbers, or not one or three.
    """
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or not all(abs(value) < float("inf") for value in values):
        raise UsageError(
            f"{option}: expected one or three numbers, found {text!r}.", next_step=f"{option} 0.485,0.456,0.406"
        )
    return values * 3 if len(values) == 1 else values


def read_labels(path: Path | None) -> tuple[str, ...] | None:
    """Return the class names of a text file, one a line.

    Raises:
        InputError: the file cannot be read, or holds no names.
    """
    if path is None:
        return None
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as class names ({error}).", next_step="one name a line") from error
    if not names:
        raise InputError(f"{path}: expected class names, found none.", next_step="one name a line")
    return names


def _unknown(
    option: str, known: "dict[str, InputType] | dict[str, InputLayout] | dict[str, Channels]", text: str
) -> UsageError:
    return UsageError(f"{option}: expected {' or '.join(known)}, found {text!r}.", next_step="edgecnn export --help")
