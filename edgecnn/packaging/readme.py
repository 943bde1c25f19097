"""The README of a package."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from edgecnn.packaging.acceptance import ACCEPTANCE, TABLE, Vectors
from edgecnn.version import __version__

_TEMPLATE = Path(__file__).with_name("README.md.template")
_WHAT = {
    "float.onnx": "the float model",
    "int8.onnx": "the int8 model",
    "float.ort": "the float model in ONNX Runtime's own format",
    "int8.ort": "the int8 model in ONNX Runtime's own format",
    "required_operators.config": "the operators that the .ort files need",
    ACCEPTANCE: "what the models must answer, and how near",
    TABLE: "the same as a plain table",
    "accept.py": "the check in Python",
    "accept.mjs": "the check in JavaScript, for Node",
    "accept.cpp": "the check in C++",
    "Accept.kt": "the check in Kotlin (untested)",
    "Accept.swift": "the check in Swift (untested)",
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a package is of, and for: words for its README."""

    name: str
    target: str
    summary: str
    provider: str
    platform: str
    onnxruntime: str
    remedy: str | None
    checked: Mapping[str, float] | None


def readme(subject: Subject, models: Mapping[str, Vectors]) -> bytes:
    """Return the README as UTF-8 Markdown.

    Args:
        subject: what the package is of, and for.
        models: what each model file must answer.
    """
    text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=subject.name,
        target=subject.target,
        summary=subject.summary[0].upper() + subject.summary[1:],
        edgecnn=__version__,
        files="\n".join(f"| `{name}` | {what} |" for name, what in _WHAT.items()),
        onnxruntime=subject.onnxruntime,
        provider=subject.provider,
        checked=_checked(subject),
        remedy=f"\nTo have it there: {subject.remedy}\n" if subject.remedy else "",
        models="\n".join(_model(name, vectors) for name, vectors in models.items()),
        platform="Arm" if subject.platform == "arm" else "x86",
        n=max(len(vectors.images) for vectors in models.values()),
    )
    return text.encode()


def _checked(subject: Subject) -> str:
    if subject.checked is None:
        return f"The models were **not run on {subject.target}**, which is not available there."
    found = ", ".join(f"{name} {worst:.3g}" for name, worst in subject.checked.items())
    return f"Run on {subject.target}, the largest differences of a logit were: {found}."


def _model(name: str, vectors: Vectors) -> str:
    return (
        f"- `{name}`: input `{vectors.input.name}` {vectors.input.dtype} "
        f"`{_shape(vectors.input.shape)}`, output `{vectors.output.name}` float32 `{_shape(vectors.output.shape)}`; "
        f"a logit may differ by {vectors.tolerance:.3g}."
    )


def _shape(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
