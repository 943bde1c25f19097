"""Stage 1: images to ``model.pt``."""

import importlib.metadata
from pathlib import Path

from edgecnn import data as data_room
from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import write_atomically
from edgecnn.bundle.locate import default_folder
from edgecnn.bundle.manifest import NetworkRecord
from edgecnn.data import Dataset
from edgecnn.errors import BundleError, Interrupted
from edgecnn.models import model_spec
from edgecnn.pipeline.context import Options, Outcome, Work, describe_artifact, require_torch, working_on
from edgecnn.training import TrainingSettings

CHECKPOINT = "model.pt"
STATE = "training.pt"


def train(
    model: str = "simplecnn",
    *,
    settings: TrainingSettings | None = None,
    options: Options | None = None,
) -> Outcome:
    """Train a model of the table and write ``model.pt`` into its bundle.

    Args:
        model: name in the model table.
        settings: see :class:`TrainingSettings`.
        options: bundle (default ``artifacts/<model>``), data (default ``digits``), and so on.

    Raises:
        UsageError: no such model.
        DataError: the images cannot be used.
        BundleError: the folder cannot be used.
        StageError: the loss stopped being finite.
        Interrupted: Ctrl-C; the last epoch's state is kept and the next call goes on from it.
    """
    options = options or Options()
    _, height, width = model_spec(model).input_shape
    dataset = data_room.load(options.data or "digits", height=height, width=width, cache_folder=options.cache)
    with working_on(options.bundle or default_folder(model), create=True) as bundle:
        return train_stage(bundle, dataset, model, settings or TrainingSettings(), options)


def train_stage(bundle: Bundle, dataset: Dataset, model: str, settings: TrainingSettings, options: Options) -> Outcome:
    """Train inside a locked bundle; see :func:`train`."""
    flip = data_room.SOURCES[dataset.source].mirrors if settings.flip is None else settings.flip
    work = Work(
        bundle=bundle,
        stage="train",
        inputs={"data": dataset.sha256},
        settings={"model": model, **settings.model_dump(mode="json"), "flip": flip},
    )
    if not options.force and work.is_done():
        _remove_finished_state(bundle)
        return work.unchanged()
    if not options.force:
        _refuse_to_overwrite(bundle)
    return _train(work, dataset, model, settings, flip, options)


def _train(
    work: Work, dataset: Dataset, model: str, settings: TrainingSettings, flip: bool, options: Options
) -> Outcome:
    require_torch("train")
    import torch

    from edgecnn.models import checkpoint
    from edgecnn.training.loop import train_network

    state = work.bundle.path(STATE)
    try:
        info, module = train_network(
            model,
            dataset,
            settings,
            flip=flip,
            key=work.key,
            resume_from=state.read_bytes() if state.is_file() else None,
            save_state=lambda data: write_atomically(state, data),
            progress=options.progress,
        )
    except KeyboardInterrupt as error:
        kept = f"{state} keeps the last finished epoch" if state.is_file() else "no epoch was finished"
        raise Interrupted(
            f"train: interrupted; {kept}.", next_step="the same command again; it goes on from there"
        ) from error
    data = checkpoint.pack(info, module)
    tools = {"torch": importlib.metadata.version("torch"), "threads": str(torch.get_num_threads())}
    outcome = work.finish(
        [(describe_artifact("train", CHECKPOINT, data, tools=tools), data)],
        {
            "network": NetworkRecord(
                name=model,
                parameters=sum(parameter.numel() for parameter in module.parameters()),
                mean=info.mean,
                std=info.std,
            ),
            "data": data_room.record(dataset),
            "training_curve": info.curve,
        },
    )
    state.unlink(missing_ok=True)
    return outcome


def _remove_finished_state(bundle: Bundle) -> None:
    """Remove what a training that was killed in its last moment left; a later one's state is newer, and kept."""
    state, checkpoint = bundle.path(STATE), bundle.path(CHECKPOINT)
    if state.is_file() and state.stat().st_mtime_ns <= checkpoint.stat().st_mtime_ns:
        state.unlink()


def _refuse_to_overwrite(bundle: Bundle) -> None:
    """Keep a checkpoint that someone put there: only what training itself made may be replaced unasked.

    While ``training.pt`` is there, a ``model.pt`` is that of a run killed in its last moment.
    """
    path: Path = bundle.path(CHECKPOINT)
    known = bundle.manifest.artifact(CHECKPOINT)
    if not path.is_file() or bundle.path(STATE).is_file():
        return
    if known is None or not bundle.holds({CHECKPOINT: known.sha256}):
        raise BundleError(
            f"{path}: is not the checkpoint that the manifest names; training would overwrite it.",
            next_step=f"edgecnn export {path} to use it, or --force to train over it",
        )
