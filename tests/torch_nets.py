"""Small PyTorch networks of every kind that people deploy, and a way to draw random ones."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 3


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return the network with weights and statistics that are nowhere 0 or 1, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            nn.init.normal_(module.running_mean, 0, 0.3, generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator)
            nn.init.normal_(module.bias, 0, 0.3, generator)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0, fan_in**-0.5, generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.3, generator)
    return network.eval()


# Blocks.


class OptionA(nn.Module):
    """Residual with a shortcut without weights: every second pixel, and zero channels (He et al. 2015, section 4.2)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.stride, self.more = stride, out - channels

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return functional.relu(self.body(x) + shortcut)


class Residual(nn.Module):
    """Residual with an identity, or a projection where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, out, 3, stride, padding=1), nn.BatchNorm2d(out))
        same = channels == out and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(channels, out, 1, stride), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class SqueezeExcite(nn.Module):
    """Scale each channel by what all pixels say (Hu et al. 2017)."""

    def __init__(self, channels: int, gate: nn.Module) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.gate(self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(x, 1)))))
        return x * scale


class Dense(nn.Module):
    """Append new channels to the old ones (Huang et al. 2016)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, growth, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


class Shuffle(nn.Module):
    """Deal the channels of each group out to all groups (Zhang et al. 2017)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        x = x.view(n, self.groups, channels // self.groups, height, width)
        return x.transpose(1, 2).reshape(n, channels, height, width)


class InvertedResidual(nn.Module):
    """Expand, depthwise, squeeze and excite, project, as in MobileNetV3 (Howard et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 3 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.Hardswish(),
            nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            SqueezeExcite(wide, nn.Hardsigmoid()),
            nn.Hardswish(),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Dropout2d(0.2),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def head(channels: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels, CLASSES))


def stem(out: int = 8, **settings: object) -> nn.Module:
    return nn.Conv2d(3, out, 3, **settings)  # type: ignore[arg-type]


def conv_bn_relu(channels: int, out: int, kernel: int = 3, **settings: object) -> nn.Module:
    conv = nn.Conv2d(channels, out, kernel, bias=False, **settings)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


#: One of each kind, for the exporter that takes seconds.
NETS: dict[str, Callable[[], nn.Module]] = {
    "residual with padded identity": lambda: nn.Sequential(
        stem(padding=1), OptionA(8, 12, 2), OptionA(12, 12, 1), head(12)
    ),
    "residual with projection": lambda: nn.Sequential(
        conv_bn_relu(3, 8), Residual(8, 8, 1), Residual(8, 12, 2), head(12)
    ),
    "grouped and depthwise": lambda: nn.Sequential(
        stem(), conv_bn_relu(8, 12, groups=4, dilation=2), conv_bn_relu(12, 12, groups=12, stride=2), head(12)
    ),
    "inverted residual": lambda: nn.Sequential(
        stem(padding=1, bias=False), nn.Hardswish(), InvertedResidual(8), head(8)
    ),
    "squeeze and excite, SiLU": lambda: nn.Sequential(
        stem(stride=2), nn.SiLU(), SqueezeExcite(8, nn.Sigmoid()), head(8)
    ),
    "dense": lambda: nn.Sequential(stem(), Dense(8, 4), Dense(12, 4), nn.BatchNorm2d(16), nn.ReLU(), head(16)),
    "shuffle": lambda: nn.Sequential(
        stem(), nn.Conv2d(8, 8, 1, groups=4), Shuffle(4), nn.Conv2d(8, 8, 1, groups=4), head(8)
    ),
    "batch norm first": lambda: nn.Sequential(
        nn.BatchNorm2d(3), stem(), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), head(8)
    ),
    "batch norm after ReLU": lambda: nn.Sequential(stem(), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), head(8)),
    "padded pools": lambda: nn.Sequential(
        stem(),
        nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        head(8),
    ),
    "other paddings": lambda: nn.Sequential(
        stem(padding=2, padding_mode="reflect"),
        nn.Conv2d(8, 8, (2, 4), padding="same"),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="replicate"),
        head(8),
    ),
    "upsampling": lambda: nn.Sequential(
        stem(stride=2),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.Conv2d(8, 4, 3),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4, CLASSES),
    ),
}


# Random ones.


@dataclass
class Growing:
    """A network while it is drawn, and the shape of what comes out of it."""

    channels: int
    height: int
    width: int
    layers: list[nn.Module] = field(default_factory=list)

    def add(self, layer: nn.Module) -> None:
        """Append a layer, and ask PyTorch for its shape."""
        with torch.inference_mode():
            x = layer.eval()(torch.zeros(1, self.channels, self.height, self.width))
        self.layers.append(layer)
        self.channels, self.height, self.width = x.shape[1:]


PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
PADDING_MODES: tuple[PaddingMode, ...] = ("zeros", "zeros", "zeros", "reflect", "circular", "replicate")
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.LeakyReLU, nn.GELU, nn.Sigmoid)


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, int]]:
    """Draw a network and the height and width of its images."""
    height, width = draw(st.integers(9, 20)), draw(st.integers(9, 20))
    net = Growing(channels=3, height=height, width=width)
    if draw(st.integers(0, 4)) == 0:
        net.add(nn.BatchNorm2d(3))
    draw_conv(draw, net)
    for _ in range(draw(st.integers(1, 4))):
        draw_layer(draw, net)
    if draw(st.booleans()):
        net.layers.append(head(net.channels))
    else:
        net.layers.append(nn.Flatten())
        net.layers.append(nn.Linear(net.channels * net.height * net.width, CLASSES))
    return randomized(nn.Sequential(*net.layers), draw(st.integers(0, 999))), (height, width)


def draw_conv(draw: st.DrawFn, net: Growing) -> None:
    """Add a convolution of any kind that fits."""
    groups = draw(st.sampled_from([g for g in (1, 1, 1, 2, 4, net.channels) if net.channels % g == 0]))
    out = groups * draw(st.integers(1, max(1, 8 // groups)))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    dilation = (draw(st.sampled_from([1, 1, 2])), draw(st.sampled_from([1, 1, 3])))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    mode: PaddingMode = draw(st.sampled_from(PADDING_MODES))
    padding: str | tuple[int, int] = draw(
        st.one_of(st.sampled_from(["same", "valid"]), st.tuples(st.integers(0, 3), st.integers(0, 3)))
    )
    if padding == "same":
        stride = (1, 1)
    reach = tuple((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
    if min(net.height - reach[0], net.width - reach[1], net.height - 3, net.width - 3) < 1 or max(reach) > 6:
        kernel, dilation, padding = (1, 1), (1, 1), "valid"
    net.add(
        nn.Conv2d(
            net.channels, out, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()), padding_mode=mode
        )
    )


def draw_layer(draw: st.DrawFn, net: Growing) -> None:
    """Add one layer or block; one that does not fit is left out."""
    channels, size = net.channels, min(net.height, net.width)
    kinds = ["conv", "norm", "activation", "dropout", "residual", "option_a", "dense", "excite", "upsample", "inverted"]
    kinds += ["pool", "pool", "adaptive"] if size >= 4 else []
    kinds += ["shuffle"] if channels % 2 == 0 else []
    match draw(st.sampled_from(kinds)):
        case "conv":
            draw_conv(draw, net)
        case "norm":
            net.add(nn.BatchNorm2d(channels))
        case "activation":
            net.add(draw(st.sampled_from(ACTIVATIONS))())
        case "dropout":
            net.add(draw(st.sampled_from([nn.Dropout(0.5), nn.Dropout2d(0.5)])))
        case "residual":
            net.add(Residual(channels, draw(st.sampled_from([channels, channels + 3])), draw(st.integers(1, 2))))
        case "option_a":
            net.add(OptionA(channels, channels + draw(st.integers(0, 3)), draw(st.integers(1, 2))))
        case "dense":
            net.add(Dense(channels, draw(st.integers(1, 4))))
        case "excite":
            net.add(SqueezeExcite(channels, draw(st.sampled_from([nn.Sigmoid(), nn.Hardsigmoid()]))))
        case "inverted":
            net.add(InvertedResidual(channels))
        case "upsample":
            mode = draw(st.sampled_from(["bilinear", "nearest"]))
            corners = draw(st.booleans()) if mode == "bilinear" else None
            if size <= 12:
                net.add(nn.Upsample(scale_factor=2, mode=mode, align_corners=corners))
        case "shuffle":
            net.add(Shuffle(2))
        case "adaptive":
            factors = [size for size in (1, 2, 3) if not net.height % size and not net.width % size]
            pool = draw(st.sampled_from([nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d]))
            net.add(pool(draw(st.sampled_from(factors))))
        case "pool":
            draw_pool(draw, net)


def draw_pool(draw: st.DrawFn, net: Growing) -> None:
    """Add a pool with any window that fits."""
    kernel = (draw(st.integers(1, 4)), draw(st.integers(2, 4)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
    ceil = draw(st.booleans())
    if draw(st.booleans()):
        net.add(nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil))
    else:
        net.add(nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=draw(st.booleans())))
