"""The training loop: one tensor of bytes, AdamW, one cycle, and a state after every epoch.

What is random in an epoch depends on the seed and the epoch's number alone, so a run that was killed
and taken up again gives the same weights, byte for byte, as one that was not.
"""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecnn.bundle.manifest import EpochRecord
from edgecnn.data import Dataset, record
from edgecnn.errors import StageError
from edgecnn.models import model_spec
from edgecnn.models.checkpoint import CheckpointInfo
from edgecnn.progress import Progress
from edgecnn.training.augment import pad_by_reflection, shift_and_flip
from edgecnn.training.settings import TrainingSettings

WARM_UP_FRACTION = 0.2


@dataclass(kw_only=True)
class TrainingState:
    """Everything that changes while training, between two epochs."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    epochs_done: int = 0
    curve: list[EpochRecord] = field(default_factory=list)

    def pack(self, key: str) -> bytes:
        """Return the state as a file; ``key`` says which run it belongs to."""
        buffer = io.BytesIO()
        content = {
            "key": key,
            "epochs_done": self.epochs_done,
            "curve": [record.model_dump() for record in self.curve],
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        torch.save(content, buffer)
        return buffer.getvalue()

    def restore(self, data: bytes, key: str) -> bool:
        """Take up a packed state; False, and nothing changed, if it is torn or belongs to another run."""
        try:
            content = torch.load(io.BytesIO(data), weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            return False
        if content["key"] != key:
            return False
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        self.epochs_done = content["epochs_done"]
        self.curve = [EpochRecord.model_validate(row) for row in content["curve"]]
        return True


def train_network(
    model: str,
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    flip: bool,
    key: str,
    resume_from: bytes | None,
    save_state: Callable[[bytes], None],
    progress: Progress,
) -> tuple[CheckpointInfo, nn.Module]:
    """Train a model of the table on the training images.

    Args:
        model: name in the model table.
        dataset: its training split is used; the checkpoint names it by content.
        settings: see :class:`TrainingSettings`.
        flip: whether a mirrored image still shows its class.
        key: names this run; a state with another key is not taken up.
        resume_from: a packed state of an earlier attempt, or None.
        save_state: called with a packed state after every epoch.
        progress: told the loss and accuracy of every few steps.

    Returns:
        What the checkpoint says of itself, and the module in evaluation mode.

    Raises:
        StageError: the loss stopped being finite.
    """
    images = dataset.train
    pixels = torch.from_numpy(images.pixels)
    mean, std = channel_statistics(pixels)
    state = _begin(model, len(images.classes), len(images), settings)
    if resume_from is not None and state.restore(resume_from, key):
        progress.say(f"going on with training after epoch {state.epochs_done} of {settings.epochs}")
    padded = pad_by_reflection(pixels, settings.crop_pixels)
    labels = torch.from_numpy(images.labels)
    while state.epochs_done < settings.epochs:
        epoch_seed = settings.seed * 100_003 + state.epochs_done + 1
        generator = torch.Generator().manual_seed(epoch_seed)
        augmented = shift_and_flip(padded, settings.crop_pixels, flip=flip, generator=generator)
        order = torch.randperm(len(images), generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(epoch_seed)  # for dropout
            record_of_epoch = _run_epoch(state, augmented, labels, order, (mean, std), settings, progress)
        state.curve.append(record_of_epoch)
        state.epochs_done += 1
        save_state(state.pack(key))
    info = CheckpointInfo(
        model=model,
        input_shape=model_spec(model).input_shape,
        classes=images.classes,
        mean=_triple(mean),
        std=_triple(std),
        config=settings.model_dump() | {"flip": flip},
        data=record(dataset),
        curve=tuple(state.curve),
    )
    return info, state.module.eval()


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel in [0, 1], float32 ``[C]``; pixels are uint8 ``[N, H, W, C]``.

    Counted exactly in integers. A constant channel gets the deviation 1, so that nothing is divided by zero.
    """
    n = pixels.numel() // pixels.shape[-1]
    pieces = torch.split(pixels, 4096)
    total = torch.stack([piece.sum((0, 1, 2), dtype=torch.int64) for piece in pieces]).sum(0)
    squares = torch.stack([piece.to(torch.int64).square().sum((0, 1, 2)) for piece in pieces]).sum(0)
    mean = total.double() / n
    deviation = (squares.double() / n - mean.square()).clamp_min(0).sqrt()
    deviation = torch.where(deviation == 0, 255.0, deviation)
    return (mean / 255).float(), (deviation / 255).float()


def _begin(model: str, num_classes: int, n_images: int, settings: TrainingSettings) -> TrainingState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        module = model_spec(model).build(num_classes).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    steps = settings.epochs * _steps_per_epoch(n_images, settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.learning_rate,
        total_steps=steps,
        # OneCycleLR divides by zero where the warm-up is exactly one step
        pct_start=WARM_UP_FRACTION if WARM_UP_FRACTION * steps != 1 else 2 / steps,
    )
    return TrainingState(module=module, optimizer=optimizer, schedule=schedule)


def _steps_per_epoch(n_images: int, batch_size: int) -> int:
    return max(1, n_images // batch_size)


def _run_epoch(
    state: TrainingState,
    pixels: Tensor,
    labels: Tensor,
    order: Tensor,
    normalization: tuple[Tensor, Tensor],
    settings: TrainingSettings,
    progress: Progress,
) -> EpochRecord:
    steps = _steps_per_epoch(len(labels), settings.batch_size)
    epoch = state.epochs_done + 1
    state.module.train()
    total_loss, correct, seen = 0.0, 0, 0
    rate = state.schedule.get_last_lr()[0]
    for step, chosen in enumerate(torch.split(order, settings.batch_size)[:steps], 1):
        logits, loss = _step(state, _normalize(pixels[chosen], normalization), labels[chosen])
        total_loss += loss * len(chosen)
        correct += int((logits.argmax(1) == labels[chosen]).sum())
        seen += len(chosen)
        if step % 20 == 0 or step == steps:
            detail = f"epoch {epoch}/{settings.epochs}  loss {total_loss / seen:.3f}  top-1 {correct / seen:.1%}"
            progress.update("train", (epoch - 1) * steps + step, settings.epochs * steps, detail)
    if not torch.isfinite(torch.tensor(total_loss)):
        raise StageError(
            f"train: the loss stopped being finite in epoch {epoch}.",
            next_step="lower the learning rate with --learning-rate, and look for broken images",
        )
    return EpochRecord(
        epoch=epoch,
        loss=total_loss / seen,
        train_top1=correct / seen,
        learning_rate=rate,
    )


def _step(state: TrainingState, batch: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    logits = state.module(batch)
    loss = functional.cross_entropy(logits, labels)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.schedule.step()
    return logits.detach(), loss.item()


def _normalize(pixels: Tensor, normalization: tuple[Tensor, Tensor]) -> Tensor:
    """Return float32 ``[N, C, H, W]``, channels last in memory, from uint8 ``[N, H, W, C]``."""
    mean, std = normalization
    return pixels.float().div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


def _triple(values: Tensor) -> tuple[float, float, float]:
    first, second, third = values.tolist()
    return (first, second, third)
