"""Before integers: the float graph checked and equalized, and the range of every activation."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecnn.data import Images
from edgecnn.errors import ModelError, UsageError
from edgecnn.graph import onnx_file
from edgecnn.progress import Progress
from edgecnn.quantization.clip_ranges import clip_ranges
from edgecnn.quantization.equalization import equalize
from edgecnn.quantization.range_methods import RANGE_METHODS, Observed, Range, choose_range
from edgecnn.quantization.ranges import observe_activations
from edgecnn.quantization.recipes import Recipe
from edgecnn.quantization.removable import REMOVABLE, kept_activations
from edgecnn.quantization.tensor_stream import input_spec

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgecnn.bundle.manifest import TensorSpec

#: What a network's weight is in: layers that are worth quantizing.
WITH_WEIGHTS = ("Conv", "Gemm", "MatMul", "ConvTranspose")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A float model that can be quantized.

    Attributes:
        model: equalized if the recipe says so, with the type of every tensor that can be told.
        spec: its input.
        observed: what was seen of each activation.
        known: the ranges, where they were found before and nothing was looked at.
    """

    model: "ModelProto"
    spec: "TensorSpec"
    observed: Mapping[str, Observed]
    known: Mapping[str, Range] | None = None

    def ranges(self, recipe: Recipe) -> dict[str, Range]:
        """Return the range of each activation as the recipe chooses it.

        What a Relu or Clip alone reads gets the range of what that gives: more need not be told apart.
        """
        if self.known is not None:
            return dict(self.known)
        nodes = self.model.graph.node
        behind = {node.input[0]: node.output[0] for node in nodes if node.op_type in REMOVABLE}
        behind = {name: after for name, after in behind.items() if name not in self.observed and after in self.observed}
        own = dict(recipe.layer_ranges)
        methods = {output: own[node.name] for node in nodes if node.name in own for output in node.output}
        # A layer and the activation behind it share one range: either may be named, the activation if both are.
        methods = {behind[name]: method for name, method in methods.items() if name in behind} | methods
        found = {
            name: choose_range(methods.get(name, recipe.ranges), observed, recipe.steps, symmetric=recipe.symmetric)
            for name, observed in self.observed.items()
        }
        return found | {name: found[after] for name, after in behind.items()}


def read_float_model(data: bytes, name: str, *, needs_opset: int) -> "ModelProto":
    """Read a model that can be quantized.

    Raises:
        ModelError: it cannot be read, is quantized already, has no layer to quantize, or is of too old an opset.
    """
    model = onnx_file.parse(data, name)
    if onnx_file.is_quantized(model):
        raise ModelError(
            f"{name}: is quantized already; expected a float model.",
            next_step="give the float model: float.onnx",
        )
    if not any(node.op_type in WITH_WEIGHTS for node in model.graph.node):
        raise ModelError(
            f"{name}: has no convolution or fully connected layer to quantize.",
            next_step="give a convolutional network",
        )
    found = max((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), default=0)
    if found < needs_opset:
        raise ModelError(
            f"{name}: is of opset {found}; the recipe needs opset {needs_opset} or newer.",
            next_step=f"convert it with onnx.version_converter.convert_version(model, {needs_opset}), "
            "or export it anew",
        )
    return model


def prepare(
    model: "ModelProto",
    images: Images,
    recipe: Recipe,
    *,
    name: str,
    threads: int,
    progress: Progress,
    known: Mapping[str, Range] | None = None,
) -> Prepared:
    """Equalize a float model if the recipe says so, and look at its activations.

    Args:
        model: from :func:`read_float_model`; a copy is changed.
        images: training images.
        recipe: how.
        name: what to call the model in a message.
        threads: for running the float model.
        progress: told the calibration images done.
        known: the ranges that this recipe gave on these images before.

    Raises:
        UsageError: the recipe names a layer that the model has not.
        DataError: the images are not training images, or of another size.
        StageError: a layer gives NaN or infinite values.
    """
    import onnx

    _require_layers(model, recipe, name)
    spec = input_spec(model, name)
    if recipe.equalize:
        seen = clip_ranges(model, images, threads=threads, progress=progress)
        model = equalize(model, ranges=seen, name=name).model
    model = onnx.shape_inference.infer_shapes(model)
    for node in model.graph.node:
        node.name = node.name or node.output[0]  # the quantizers know what to leave out by its name
    if known is not None:
        return Prepared(model=model, spec=spec, observed={}, known=known)
    tensors = activations(model, recipe)
    methods = {recipe.ranges, *(method for _, method in recipe.layer_ranges)}
    counted = tensors if any(RANGE_METHODS[method].needs_histogram for method in methods) else []
    observed = observe_activations(
        model, tensors, images, counted=counted, input_spec=spec, threads=threads, progress=progress
    )
    return Prepared(model=model, spec=spec, observed=observed)


def activations(model: "ModelProto", recipe: Recipe) -> list[str]:
    """Return the float32 tensors that need a range: all that flow between nodes, the input and output included.

    What only a Relu or Clip reads does not, unless they stay: the quantizer gives the layer before them the range
    after them. Not asking for it lets ONNX Runtime fuse the two.
    """
    from onnx import TensorProto

    graph = model.graph
    typed = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    constants = {tensor.name for tensor in graph.initializer}
    flowing = [value.name for value in graph.input] + [name for node in graph.node for name in node.output]
    found = [name for name in flowing if name not in constants and typed.get(name) == TensorProto.FLOAT]
    removed = set() if recipe.symmetric else _read_by_removable_alone(model, recipe)
    return [name for name in found if name not in removed]


def _read_by_removable_alone(model: "ModelProto", recipe: Recipe) -> set[str]:
    nodes = model.graph.node
    readers = Counter(name for node in nodes for name in node.input)
    readers.update(output.name for output in model.graph.output)
    kept = {node.output[0] for node in kept_activations(model, qoperator=recipe.qoperator)}
    made = {name for node in nodes if node.op_type in WITH_WEIGHTS for name in node.output}
    removed = [node.input[0] for node in nodes if node.op_type in REMOVABLE and node.output[0] not in kept]
    return {name for name in removed if name in made and readers[name] == 1}


def _require_layers(model: "ModelProto", recipe: Recipe, name: str) -> None:
    known = [node.name or node.output[0] for node in model.graph.node]
    strangers = {*recipe.float_layers, *(layer for layer, _ in recipe.layer_ranges)} - set(known)
    if strangers:
        raise UsageError(
            f"{name}: has no layer {', '.join(sorted(strangers))}; it has {', '.join(known)}.",
            next_step="name its layers as edgecnn inspect does",
        )
