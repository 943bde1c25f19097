"""Every way edgecnn fails on purpose, and the exit code of each.

::

    EdgecnnError                    4   a stage failed
    ├── UsageError                  2   the command line asks for something that does not exist
    ├── InputError                  3   what was given cannot be used
    │   ├── DataError                   images
    │   ├── CheckpointError             model.pt
    │   ├── ModelError                  an ONNX file
    │   └── BundleError                 the bundle folder or its manifest
    ├── StageError                  4   a stage failed on good input
    │   ├── ParityError                 two forms of one network disagree
    │   └── StorageError                the disk refused a write
    ├── TargetError                 5   the target is not available here
    │   └── ChipError                   the chip that it means does not take the model
    └── Interrupted               130   stopped by Ctrl-C or SIGTERM; what was finished is kept

Exit code 0 is "passed" and 1 is "a gate failed": a gate is a verdict, not an exception.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the ``edgecnn`` process returns."""

    PASSED = 0
    GATE_FAILED = 1
    USAGE = 2
    BAD_INPUT = 3
    STAGE_FAILED = 4
    TARGET_UNAVAILABLE = 5
    INTERRUPTED = 130


class EdgecnnError(Exception):
    """Root of the tree: one sentence on what is wrong, and one on what to do next.

    Args:
        message: the file, what was expected and what was found.
        next_step: the command to type or the thing to change; shown on its own line.
    """

    exit_code: ExitCode = ExitCode.STAGE_FAILED

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\nNext: {self.next_step}"


class UsageError(EdgecnnError):
    """An option, name or command that does not exist."""

    exit_code = ExitCode.USAGE


class InputError(EdgecnnError):
    """What was given cannot be used."""

    exit_code = ExitCode.BAD_INPUT


class DataError(InputError):
    """Images that are missing, unreadable or inconsistent."""


class CheckpointError(InputError):
    """A ``model.pt`` that is not a usable checkpoint."""


class ModelError(InputError):
    """An ONNX file that is not a usable model for the stage."""


class BundleError(InputError):
    """A bundle folder that lacks something, was changed, or cannot be written."""


class StageError(EdgecnnError):
    """A stage failed on input that looked good."""


class ParityError(StageError):
    """Two forms of the same network gave different answers.

    Args:
        message: which forms, and by how much they differ.
        next_step: the command to type or the thing to change.
        images: the batch that shows it, by index into the images compared; empty if no batch does.
    """

    def __init__(self, message: str, *, next_step: str, images: tuple[int, ...] = ()) -> None:
        super().__init__(message, next_step=next_step)
        self.images = images


class StorageError(StageError):
    """The disk refused a write: full, or a quota."""


class TargetError(EdgecnnError):
    """The target is not available on this machine."""

    exit_code = ExitCode.TARGET_UNAVAILABLE


class ChipError(TargetError):
    """The chip that a target means does not take the model; another of its kind may."""


class Interrupted(EdgecnnError):  # noqa: N818 - not an error of anyone
    """Stopped from outside; the message says what was kept and how to go on."""

    exit_code = ExitCode.INTERRUPTED
