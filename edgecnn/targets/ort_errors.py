"""ONNX Runtime's exceptions: siblings with no parent but ``Exception``, gathered in one place."""


def ort_errors() -> tuple[type[Exception], ...]:
    """Return every exception class that the installed onnxruntime raises of its own.

    A ``ValueError`` is among them: the Python layer raises it for a feed that does not fit.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = tuple(
        member
        for member in vars(state).values()
        if isinstance(member, type) and issubclass(member, Exception) and member.__module__ == state.__name__
    )
    return (*own, ValueError, RuntimeError)
