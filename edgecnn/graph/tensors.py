"""Every tensor of a graph: its shape for one call, and which of them are constants.

Shapes are inferred node by node. The whole graph at once would be copied with all its weights, and would stop where
a graph computes its own sizes (Shape, Gather, Div, Concat, Reshape), as most do that were exported for any batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from edgecnn.errors import ModelError
from edgecnn.graph import constants as constant
from edgecnn.graph.constants import Constant, Values
from edgecnn.graph.window import POOLS, WINDOW_OPS, Shape, Window, pool_sizes, read_window

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto

_REMEDY = "export it with a fixed image size, and without sizes that depend on what is in the image"


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """What is known of a graph's tensors, by name.

    Attributes:
        model: what to call the graph in a message.
        image: the name of the graph's input.
        batch: images a call: what the file fixes, or 1 where it may vary.
        shapes: of all tensors, with the batch.
        stored_bytes: of what depends on the image, as stored: a tensor that goes nowhere but into QuantizeLinear
            is stored in integers, for a runtime makes one kernel of the two.
        constants: what does not depend on the image.
        values: of small constants.
        declared: tensors whose shape could not be derived and is the file's own word.
    """

    model: str
    image: str
    batch: int
    shapes: Mapping[str, Shape]
    stored_bytes: Mapping[str, int]
    constants: Mapping[str, Constant]
    values: Mapping[str, Values]
    declared: frozenset[str]

    def flows(self, node: "NodeProto") -> bool:
        """Tell whether a node depends on the image."""
        return any(name and name not in self.constants for name in node.output)

    def flowing_inputs(self, node: "NodeProto") -> list[str]:
        """Return the inputs of a node that depend on the image."""
        return [name for name in node.input if name and name not in self.constants]

    def window(self, node: "NodeProto") -> Window:
        """Return the window of a convolution or pool; see :func:`edgecnn.graph.window.read_window`."""
        place = WINDOW_OPS[node.op_type]
        weight = None if place is None else self.shapes[node.input[place]]
        return read_window(node, self.shapes[node.input[0]], self.shapes[node.output[0]], weight, self.model)

    def without_batch(self, name: str) -> Shape:
        """Return a tensor's shape for one image; the whole shape where the batch does not come first."""
        shape = self.shapes[name]
        return shape[1:] if len(shape) > 1 and shape[0] == self.batch else shape


def read_tensors(model: "ModelProto", name: str) -> Tensors:
    """Infer every shape.

    Args:
        model: a checked ONNX model.
        name: what to call it in a message.

    Raises:
        ModelError: more than one input, a size that is not fixed, or a shape that nothing tells.
    """
    walk = _Walk(model, name)
    for node in model.graph.node:
        walk.through(node)
    image, batch = walk.image.name, walk.shape(walk.image.name)[0]
    shapes = {tensor: walk.shape(tensor) for tensor in walk.types}
    return Tensors(
        model=name,
        image=image,
        batch=batch,
        shapes=shapes,
        stored_bytes=_stored_bytes(model, walk, shapes),
        constants=walk.constants,
        values=walk.values,
        declared=frozenset(walk.declared),
    )


class _Walk:
    """One pass over the nodes, in their order."""

    def __init__(self, model: "ModelProto", name: str) -> None:
        from onnx import helper

        self.name = name
        self.opsets = list(model.opset_import)
        self.ir_version = model.ir_version
        self.types: dict[str, TypeProto] = {}
        self.constants: dict[str, Constant] = {}
        self.values: dict[str, Values] = {}
        self.declared: set[str] = set()
        if model.graph.sparse_initializer:
            raise ModelError(
                f"{name}: has sparse weights, which are not read here.", next_step="save it with dense ones"
            )
        for tensor in model.graph.initializer:
            shape = tuple(tensor.dims)
            self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, shape)
            self.constants[tensor.name] = constant.stored_constant(tensor.name, tensor.data_type, shape)
            if (values := constant.small_values(tensor)) is not None:
                self.values[tensor.name] = values
        self.image = _only_input(model, name)
        symbol = self.image.type.tensor_type.shape.dim[0].dim_param if self.image.type.tensor_type.shape.dim else ""
        self.types[self.image.name] = _fixed(self.image, name)
        self.claims = _claims(model, symbol, self.shape(self.image.name)[0])

    def shape(self, tensor: str) -> Shape:
        """Return a shape that is known."""
        return tuple(dimension.dim_value for dimension in self.types[tensor].tensor_type.shape.dim)

    def through(self, node: "NodeProto") -> None:
        """Learn what a node's outputs are."""
        derived, why_not = self._infer(node)
        for output in filter(None, node.output):
            if output in derived and _is_known(derived[output]):
                self.types[output] = self._corrected(node, derived[output])
            elif output in self.claims:
                self.types[output] = self.claims[output]
                self.declared.add(output)
            else:
                raise ModelError(
                    f"{self.name}: the size of what {node.op_type} {node.name} gives is not known{why_not}.",
                    next_step=_REMEDY,
                )
        if self._is_constant(node):
            self._keep(node)
        elif any(size < 1 for output in node.output if output for size in self.shape(output)):
            sizes = "x".join(map(str, self.shape(node.output[0])))
            raise ModelError(
                f"{self.name}: nothing is left of the image after {node.op_type} {node.name} ({sizes}).",
                next_step="export it for a larger image",
            )

    def _infer(self, node: "NodeProto") -> "tuple[dict[str, TypeProto], str]":
        """Return the types of the outputs, and if there are none, why."""
        from onnx import checker, defs, shape_inference

        domain = _domain(node.domain)
        version = next((opset.version for opset in self.opsets if _domain(opset.domain) == domain), 0)
        try:
            schema = defs.get_schema(node.op_type, version, domain)
        except defs.SchemaError:
            return {}, f": onnx does not know the operator{f' of {domain}' if domain else ''}"
        try:
            inferred = shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self.types[name] for name in node.input if name},
                {name: _to_tensor(self.values[name]) for name in node.input if name in self.values},
                opset_imports=self.opsets,
                ir_version=self.ir_version,
            )
        except (shape_inference.InferenceError, checker.ValidationError) as error:
            return {}, f" ({str(error).splitlines()[0].removeprefix('[ShapeInferenceError] ')})"
        return inferred, ""

    def _corrected(self, node: "NodeProto", derived: "TypeProto") -> "TypeProto":
        """Return a pool's type with the size that runtimes give it."""
        if node.op_type in POOLS:
            inferred = tuple(dimension.dim_value for dimension in derived.tensor_type.shape.dim)
            sizes = pool_sizes(node, self.shape(node.input[0]), inferred, self.name)
            for dimension, size in zip(derived.tensor_type.shape.dim, sizes, strict=True):
                dimension.dim_value = size
        return derived

    def _is_constant(self, node: "NodeProto") -> bool:
        """Tell whether a node gives the same for every image: so does Shape, for sizes are fixed."""
        if "Random" in node.op_type or node.op_type in ("Bernoulli", "Multinomial"):
            return False
        return node.op_type in ("Shape", "Size") or all(name in self.constants for name in node.input if name)

    def _keep(self, node: "NodeProto") -> None:
        """Remember a constant, and its values if they are few."""
        if node.op_type == "Constant":
            output = node.output[0]
            elem_type = self.types[output].tensor_type.elem_type
            self.constants[output] = constant.stored_constant(output, elem_type, self.shape(output))
            values = constant.constant_values(node)
            self.values |= {} if values is None else {output: values}
        elif node.op_type in ("Shape", "Size"):
            self.constants[node.output[0]] = Constant(parameters={}, stored={}, item_bits=64)
            ends = {attribute.name: attribute.i for attribute in node.attribute}
            sizes = self.shape(node.input[0])[ends.get("start") : ends.get("end")]
            self.values[node.output[0]] = np.array(sizes if node.op_type == "Shape" else prod(sizes), np.int64)
        else:
            made = constant.made_of(node, self.constants)
            self.constants |= dict.fromkeys(filter(None, node.output), made)
            self._compute(node)

    def _compute(self, node: "NodeProto") -> None:
        inputs = {name: self.values[name] for name in node.input if name in self.values}
        if node.op_type == "Identity" and inputs:
            self.values[node.output[0]] = inputs[node.input[0]]
        elif set(filter(None, node.input)) == inputs.keys() and all(
            prod(self.shape(output)) <= constant.MAX_VALUES for output in node.output if output
        ):
            try:
                self.values |= constant.compute(node, inputs, self.types, self.opsets)
            except ModelError as error:
                raise ModelError(f"{self.name}: {error.message}", next_step=error.next_step) from error


def _only_input(model: "ModelProto", name: str) -> "ValueInfoProto":
    """Return the graph's input; what has a value in the file is none."""
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initialized]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(
            f"{name}: expected one input, the image; found {len(inputs)} ({names}).",
            next_step="give a classifier: one tensor of images in, one of logits out",
        )
    return inputs[0]


def _fixed(value: "ValueInfoProto", name: str) -> "TypeProto":
    """Return the input's type with a batch of one where it may vary."""
    from onnx import TypeProto

    fixed = TypeProto()
    fixed.CopyFrom(value.type)
    dimensions = fixed.tensor_type.shape.dim
    if len(dimensions) < 2:
        raise ModelError(
            f"{name}: expected the input {value.name} to be [N, ...], found {len(dimensions)} dimensions.",
            next_step="export it with images as the input, [N, C, H, W]",
        )
    if not dimensions[0].HasField("dim_value"):
        dimensions[0].dim_value = 1
    if not _is_known(fixed) or any(dimension.dim_value < 1 for dimension in dimensions):
        sizes = ", ".join(
            str(dimension.dim_value) if dimension.HasField("dim_value") else dimension.dim_param or "?"
            for dimension in value.type.tensor_type.shape.dim
        )
        raise ModelError(
            f"{name}: the size of the input {value.name} is not fixed: [{sizes}]; only the first may vary.",
            next_step="export it with a fixed image size",
        )
    return fixed


def _claims(model: "ModelProto", symbol: str, batch: int) -> "dict[str, TypeProto]":
    """Return the shapes that the file itself states in full, its symbol for the batch read as the batch."""
    from onnx import TypeProto

    claims = {}
    for value in (*model.graph.value_info, *model.graph.output):
        claim = TypeProto()
        claim.CopyFrom(value.type)
        for dimension in claim.tensor_type.shape.dim:
            if symbol and dimension.dim_param == symbol:
                dimension.dim_value = batch
        if _is_known(claim):
            claims[value.name] = claim
    return claims


def _is_known(value: "TypeProto") -> bool:
    tensor = value.tensor_type
    return (
        value.HasField("tensor_type")
        and tensor.elem_type != 0
        and tensor.HasField("shape")
        and all(dimension.HasField("dim_value") for dimension in tensor.shape.dim)
    )


def _stored_bytes(model: "ModelProto", walk: _Walk, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Return the bytes of each tensor that depends on the image; see :class:`Tensors`."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    kept = {value.name for value in model.graph.output} | {walk.image.name}

    def as_stored(name: str) -> str:
        reader = readers.get(name, [])
        quantized = len(reader) == 1 and reader[0].op_type == "QuantizeLinear" and name not in kept
        return reader[0].output[0] if quantized else name

    flowing = [name for name in shapes if name not in walk.constants]
    return {
        name: constant.size_bytes(shapes[name], constant.item_bits(walk.types[as_stored(name)].tensor_type.elem_type))
        for name in flowing
    }


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _to_tensor(values: Values) -> "TensorProto":
    from onnx import numpy_helper

    return numpy_helper.from_array(values)
