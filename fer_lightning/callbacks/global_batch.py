"""A run goes on with the global batch it began with, on however many devices."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from fer_lightning.errors import CheckpointError
from fer_lightning.runs.checkpoint import SAVED_KEY

__all__ = ["BatchPlan", "GlobalBatch", "may_go_on"]


@dataclass(frozen=True)
class BatchPlan:
    """How an optimizer step's samples are shared out: processes, samples in a batch of one, its batches in a step."""

    world: int
    batch: int
    accumulate: int

    @property
    def samples(self) -> int:
        """Samples in an optimizer step."""
        return self.world * self.batch * self.accumulate

    def __str__(self) -> str:
        return f"{self.world} x {self.batch} x {self.accumulate} = {self.samples}"


def may_go_on(before: BatchPlan, now: BatchPlan, inside_epoch: bool) -> tuple[bool, str]:
    """Tell whether a run may go on with another plan, and what to say of it; nothing if the plan is the same.

    Another number of samples in a step is refused inside an epoch, because the position in it is counted in batches,
    and where only the number of processes differs, because nobody means to change the training by that.
    """
    if now == before:
        return True, ""
    change = f"devices x batch x accumulation was {before} samples in a step and is {now}"
    if now.samples == before.samples:
        return True, f"{change}: the run goes on with the same samples, but not bit for bit as it would have"
    if not inside_epoch and (now.batch, now.accumulate) != (before.batch, before.accumulate):
        return True, f"{change}, from this epoch on; a schedule that counts steps is stretched or cut by it"
    return False, f"{change}; {_advice(before, now)}"


def _advice(before: BatchPlan, now: BatchPlan) -> str:
    each, left = divmod(before.samples, now.world)
    if left:
        return f"{before.samples} samples cannot be shared out evenly: train on {before.world} devices"
    ways = [f"--data.batch_size {each // now.accumulate}"] if each % now.accumulate == 0 else []
    if each % now.batch == 0:
        ways.append(f"--trainer.accumulate_grad_batches {each // now.batch}")
    return f"pass {' or '.join(ways) or f'--data.batch_size {each} --trainer.accumulate_grad_batches 1'}"


class GlobalBatch(Callback):
    """Writes into checkpoints how many samples a step has, and refuses to go on with another number by accident.

    On another number of devices with the same number of samples in a step the run goes on with the same samples; batch
    norm, dropout and the order of sums are others, so it is not the same bit for bit.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the plan."""
        plan = _plan(trainer, trainer.current_epoch)
        if plan is not None:
            checkpoint[SAVED_KEY] = {**checkpoint.get(SAVED_KEY, {}), **asdict(plan)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare the plan and bring the place in the epoch into batches of this run.

        Raises:
            CheckpointError: if a step would have another number of samples.
        """
        stored, now = checkpoint.get(SAVED_KEY, {}), _plan(trainer, checkpoint["epoch"])
        names = ("world", "batch", "accumulate")
        if trainer.state.fn != "fit" or now is None or not all(name in stored for name in names):
            return
        before = BatchPlan(*(int(stored[name]) for name in names))
        loop = checkpoint["loops"]["fit_loop"]
        epochs = loop["epoch_progress"]["current"]
        allowed, reason = may_go_on(before, now, inside_epoch=epochs["processed"] < epochs["ready"])
        if not allowed:
            error = CheckpointError(reason)
            error.everywhere = True
            raise error
        if reason and trainer.is_global_zero:
            print(reason)
        if now.samples == before.samples:
            _count_again(loop["epoch_loop.batch_progress"], before.accumulate, now.accumulate)


def _count_again(progress: dict[str, Any], before: int, now: int) -> None:
    """Convert counters of batches from one accumulation to another, in place.

    Lightning stores ``total`` and ``current``, each with ``ready``, ``completed``, ``started`` and ``processed``. A
    checkpoint is written between optimizer steps only, so ``ready * now / before`` is a whole number.
    """
    for counts in progress.values():
        if isinstance(counts, dict):
            more = counts["ready"] * now // before - counts["ready"]
            # At on_train_batch_end Lightning has counted the batch as processed but not as completed; the difference
            # has to stay, so all counters are shifted by the same number.
            counts.update({name: count + more for name, count in counts.items()})


def _plan(trainer: Trainer, epoch: int) -> BatchPlan | None:
    batch = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    if batch is None:
        return None
    accumulate = trainer.accumulate_grad_batches
    for callback in vars(trainer)["callbacks"]:
        if isinstance(callback, GradientAccumulationScheduler):  # sets the trainer's number when the epoch begins
            accumulate = callback.get_accumulate_grad_batches(epoch)
    return BatchPlan(trainer.world_size, batch, accumulate)
