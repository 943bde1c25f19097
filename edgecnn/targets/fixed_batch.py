"""A batch that varies, made fixed: compilers for accelerators want to know every shape."""


def fix_batch(model: bytes, *, batch: int = 1) -> bytes:
    """Return a model whose inputs and outputs have a fixed first dimension; one that is fixed stays as it is.

    Shapes that the file tells of the tensors between them are taken out: the runtime infers them again.

    Args:
        model: an ONNX file.
        batch: the first dimension's size.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    for value in (*proto.graph.input, *proto.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and not dimensions[0].HasField("dim_value"):
            dimensions[0].Clear()
            dimensions[0].dim_value = batch
    del proto.graph.value_info[:]
    return proto.SerializeToString()
