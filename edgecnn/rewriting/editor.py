"""A graph that is being rewritten: who makes a tensor, who reads it, and what is constant."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.graph.remove_unused import remove_unused
from edgecnn.rewriting.attributes import constant_values
from edgecnn.rewriting.shapes import Sizes, infer_shapes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: The first version of the format in which an initializer need not be an input, and is a default if it is.
_IR_DEFAULTS = 4


class Editor:
    """A copy of a model, with what a pattern is looked up by; see :meth:`finish`.

    Attributes:
        model: the copy, changed in place.
    """

    def __init__(self, model: "ModelProto") -> None:
        """Copy a model and infer the sizes of its tensors."""
        self.model = type(model)()
        self.model.CopyFrom(model)
        self._sizes, self._types = infer_shapes(model)
        self._names = {name for node in self.model.graph.node for name in (node.name, *node.input, *node.output)}
        self._names |= {tensor.name for tensor in self.model.graph.initializer}
        self._names |= {value.name for value in self.model.graph.input}
        self._outputs = {output.name for output in self.model.graph.output}
        self._initializers = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._defaults = set(self._initializers)
        if self.model.ir_version >= _IR_DEFAULTS:
            for value in self.model.graph.input:
                self._initializers.pop(value.name, None)
        # Nodes of their own: taking one out of a protobuf's list copies those that stay.
        self._nodes: list[NodeProto] = []
        for node in self.model.graph.node:
            self._nodes.append(type(node)())
            self._nodes[-1].CopyFrom(node)
            self._nodes[-1].name = node.name or node.output[0]  # so that a site can be told
        self._makers: dict[str, NodeProto] = {}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in self._nodes:
            self._enter(node)

    def _enter(self, node: "NodeProto") -> None:
        """Note what a node makes and reads."""
        self._makers |= {name: node for name in node.output if name}
        for name in dict.fromkeys(node.input):
            self._readers.setdefault(name, []).append(node)

    def _leave(self, node: "NodeProto") -> None:
        """Forget what a node makes and reads."""
        for name in node.output:
            if self._makers.get(name) is node:
                del self._makers[name]
        for name in dict.fromkeys(node.input):
            # Not list.remove, which compares what nodes hold.
            self._readers[name] = [reader for reader in self._readers[name] if reader is not node]

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return max(opset.version for opset in self.model.opset_import if opset.domain in ("", "ai.onnx"))

    @property
    def nodes(self) -> "list[NodeProto]":
        """The nodes as they are now; a list of its own."""
        return list(self._nodes)

    def maker(self, tensor: str) -> "NodeProto | None":
        """Return the node that makes a tensor; None for an input or constant."""
        return self._makers.get(tensor)

    def readers(self, tensor: str) -> "list[NodeProto]":
        """Return the nodes that read a tensor."""
        return self._readers.get(tensor, [])

    def only_reader(self, tensor: str) -> "NodeProto | None":
        """Return the node that alone reads a tensor; None if there are others, or it is an output of the graph."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self._outputs else None

    def is_output(self, tensor: str) -> bool:
        """Tell whether a tensor leaves the graph."""
        return tensor in self._outputs

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """Return a constant's values, of the file or of a Constant node.

        None if the tensor depends on the image, if its values lie in another file, or if who runs the model may give
        others: an initializer that is an input too is only a default.
        """
        from onnx import numpy_helper

        if tensor in self._makers:
            return constant_values(self._makers[tensor])
        found = self._initializers.get(tensor)
        if found is None or found.data_location == found.EXTERNAL:
            return None
        return numpy_helper.to_array(found)

    def sizes(self, tensor: str) -> Sizes | None:
        """Return the sizes of a tensor; None if nothing tells how many it has."""
        return self._sizes.get(tensor)

    def image_sizes(self, tensor: str) -> tuple[int, int, int] | None:
        """Return channels, height and width of a tensor ``[N, C, H, W]``; None if it is another, or they may vary."""
        sizes = self._sizes.get(tensor, ())
        if len(sizes) != 4:
            return None
        _, channels, height, width = sizes
        return None if channels is None or height is None or width is None else (channels, height, width)

    def type(self, tensor: str) -> str:
        """Return NumPy's name of a tensor's type; empty if nothing tells it."""
        from onnx import helper

        elem_type = self._types.get(tensor, 0)
        return str(helper.tensor_dtype_to_np_dtype(elem_type)) if elem_type else ""

    def name(self, stem: str) -> str:
        """Return a name that nothing in the graph has; the same calls give the same names."""
        name, count = stem, 1
        while name in self._names:
            name, count = f"{stem}_{count}", count + 1
        self._names.add(name)
        return name

    def add_constant(self, stem: str, values: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        from onnx import helper, numpy_helper

        name = self.name(stem)
        tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
        self.model.graph.initializer.append(tensor)
        self._initializers[name] = self.model.graph.initializer[-1]
        if self.model.ir_version < _IR_DEFAULTS:
            self.model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        return name

    def add(
        self, op: str, inputs: Sequence[str], stem: str, attributes: Mapping[str, Any] = MappingProxyType({})
    ) -> str:
        """Add a node and return the name of its only output; :meth:`finish` brings the nodes into order."""
        return self.add_as(self.name(stem), op, inputs, attributes)

    def add_as(
        self, output: str, op: str, inputs: Sequence[str], attributes: Mapping[str, Any] = MappingProxyType({})
    ) -> str:
        """Add a node that makes a tensor which had another maker before; return the tensor's name."""
        from onnx import helper

        self._nodes.append(helper.make_node(op, list(inputs), [output], name=self.name(f"{output}.{op}"), **attributes))
        self._enter(self._nodes[-1])
        return output

    def inherit(self, tensor: str, node: "NodeProto") -> str:
        """Give what makes a tensor the name of the layer that it stands in for; return the tensor's name."""
        self._makers[tensor].name = node.name
        return tensor

    def remove(self, *nodes: "NodeProto") -> None:
        """Take nodes out; what read their outputs must be given other inputs."""
        gone = {id(node) for node in nodes}
        self._nodes = [node for node in self._nodes if id(node) not in gone]
        for node in nodes:
            self._leave(node)

    def redirect(self, old: str, new: str) -> None:
        """Let all that reads one tensor read another; an output of the graph keeps its name and is not redirected."""
        for node in self.readers(old):
            with self.changing(node):
                for place, name in enumerate(node.input):
                    if name == old:
                        node.input[place] = new

    @contextmanager
    def changing(self, node: "NodeProto") -> Iterator[None]:
        """Let what a node reads and makes be changed in place."""
        self._leave(node)
        yield
        self._enter(node)

    def _drop_inputs_without_their_default(self) -> None:
        """Let nobody be asked for a number that the file gave until nothing read it any more."""
        left = {tensor.name for tensor in self.model.graph.initializer}
        inputs = [value for value in self.model.graph.input if value.name in left or value.name not in self._defaults]
        del self.model.graph.input[:]
        self.model.graph.input.extend(inputs)

    def finish(self) -> "ModelProto":
        """Drop what nothing needs, bring the nodes into order, and return the model."""
        del self.model.graph.node[:]
        self.model.graph.node.extend(self._nodes)
        remove_unused(self.model)
        self._drop_inputs_without_their_default()
        _sort(self.model)
        del self.model.graph.value_info[:]  # a rewrite may have changed sizes; who needs them infers them
        return self.model


def _sort(model: "ModelProto") -> None:
    """Put each node behind what makes its inputs; nodes that were in order stay in order."""
    made = {name for node in model.graph.node for name in node.output}
    waiting, ready, ordered = list(model.graph.node), set[str](), []
    while waiting:
        later = []
        for node in waiting:
            if all(name in ready or name not in made for name in node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ValueError(f"nodes in a circle: {', '.join(node.name for node in later)}")
        waiting = later
    del model.graph.node[:]
    model.graph.node.extend(ordered)
