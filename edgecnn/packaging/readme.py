"""The README of a package."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from edgecnn.packaging.acceptance import ACCEPTANCE, TABLE, Vectors
from edgecnn.packaging.way import Way
from edgecnn.version import __version__

_TEMPLATE = Path(__file__).with_name("README.md.template")
_WHAT = {
    "float.onnx": "the float model",
    "int8.onnx": "the int8 model",
    "int8_portable.onnx": "the int8 model, as it was before it was rewritten for CPUs",
    "float.ort": "the float model in ONNX Runtime's own format",
    "int8.ort": "the int8 model in ONNX Runtime's own format",
    "int8_portable.ort": "the int8 model in ONNX Runtime's own format",
    "required_operators.config": "the operators that the .ort files need",
    ACCEPTANCE: "what the models must answer, and how near",
    TABLE: "the same as a plain table",
    "accept.py": "the check in Python",
    "accept.mjs": "the check in JavaScript, for Node",
    "accept.cpp": "the check in C++",
    "Accept.kt": "the check in Kotlin (untested)",
    "Accept.swift": "the check in Swift (untested)",
}
#: A line of the table of programs, by file; ``$requires`` and ``$runtime`` are those of the package.
_PROGRAMS = {
    "accept.py": "| Python | `pip install $requires numpy` | `python accept.py` | run in edgecnn's tests |",
    "accept.mjs": "| JavaScript | `npm install onnxruntime-web` (or `onnxruntime-node`), the newest up to $runtime | "
    "`node accept.mjs` | run in edgecnn's tests |",
    "accept.cpp": "| C++ | headers and library of ONNX Runtime's release $runtime | `g++ -std=c++17 -O2 accept.cpp "
    "-I INCLUDE -L LIB -lonnxruntime -o accept && ./accept` | compiled and run in edgecnn's tests |",
    "Accept.kt": "| Kotlin | `com.microsoft.onnxruntime:onnxruntime-android:$runtime` | `accept(folder)` of "
    "`Accept.kt` | **untested** |",
    "Accept.swift": "| Swift | onnxruntime-swift-package-manager, $runtime | `swift run Accept .` with "
    "`Accept.swift` | **untested** |",
}
_OTHER_PROGRAMS = """
The JavaScript, C++, Kotlin and Swift programs run on the default provider, which is the CPU; `accept.py` on
`$provider` alone, but for the `.ort` files, which it opens on the CPU.
"""
_ONE_PROGRAM = """
It opens each model on `$provider` alone, reads from the session which node ran where, and fails a model of which a node
ran elsewhere.
"""
_ORT_FILES = """
`.ort` files are the same models in ONNX Runtime's own format, optimized beforehand for $platform. A build of ONNX
Runtime with only the operators they need is made with `--include_ops_by_config required_operators.config`. Open them as
they are: the options for saved runtime optimizations have nothing to do with them.
"""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a package is of, and for: words for its README."""

    name: str
    target: str
    summary: str
    way: Way
    platform: str
    remedy: str | None
    checked: Mapping[str, float] | None
    notes: tuple[str, ...] = ()


def readme(subject: Subject, models: Mapping[str, Vectors], files: Collection[str]) -> bytes:
    """Return the README as UTF-8 Markdown.

    Args:
        subject: what the package is of, and for.
        models: what each model file must answer.
        files: names of everything else in the package, and of the models.
    """
    way = subject.way
    words = {
        "provider": way.provider,
        "runtime": way.runtime,
        "requires": " ".join(way.requires),
        "platform": "Arm" if subject.platform == "arm" else "x86",
    }
    programs = [line for name, line in _PROGRAMS.items() if name in files]
    text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        words,
        name=subject.name,
        target=subject.target,
        summary=subject.summary[0].upper() + subject.summary[1:],
        edgecnn=__version__,
        files="\n".join(f"| `{name}` | {what} |" for name, what in _described(files)),
        pins=", ".join(f"**{pin}**" for pin in way.requires),
        checked=_checked(subject),
        remedy=f"\nTo have it there: {subject.remedy}\n" if subject.remedy else "",
        notes="".join(f"\n{note}\n" for note in subject.notes),
        programs=Template("\n".join(programs)).substitute(words),
        where=Template(_OTHER_PROGRAMS if len(programs) > 1 else _ONE_PROGRAM).substitute(words),
        models="\n".join(_model(name, vectors) for name, vectors in models.items()),
        ort_files=Template(_ORT_FILES).substitute(words) if any(name.endswith(".ort") for name in files) else "",
        n=max(len(vectors.images) for vectors in models.values()),
    )
    return text.encode()


def _described(files: Collection[str]) -> list[tuple[str, str]]:
    """Return each file that is not one of vectors, and what it is; those of targets' own by what their names say."""
    return [(name, _WHAT.get(name) or _what(name)) for name in files if not name.endswith(".bin")]


def _what(name: str) -> str:
    stem, context, _ = name.partition("_ctx.onnx")
    kind = "the float model" if stem.startswith("float") else "the int8 model made for this target"
    form = ", compiled for it: its context binary in an ONNX file" if context else ""
    return f"{kind}{form}" if name.endswith(".onnx") else f"{kind} in ONNX Runtime's own format"


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
