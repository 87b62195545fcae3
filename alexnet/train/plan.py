"""What the loop is told before its first step: how long, by which rates, and when to save."""

from dataclasses import dataclass

from alexnet.data.batches import Batch
from alexnet.settings import AugmentSettings, MixingSettings, ProgressiveSize
from alexnet.train.schedule_settings import ScheduleSettings
from alexnet.train.step import PLAIN, StepOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPlan:
    """What is fixed before the first step."""

    seed: int
    total_steps: int
    steps_per_epoch: int
    full_batch_rows: int
    """Rows of every global batch but an epoch's last, which has the rest."""
    schedule: ScheduleSettings
    augment: AugmentSettings
    log_every_steps: int
    save_every_steps: int | None
    save_every_epochs: int | None
    mixing: MixingSettings | None = None
    progressive: ProgressiveSize | None = None
    options: StepOptions = PLAIN

    def saves_after(self, step: int) -> bool:
        """Tell whether the state after `step` updates is kept; the last always is."""
        if step == self.total_steps:
            return True
        if self.save_every_steps is not None and step % self.save_every_steps == 0:
            return True
        if self.save_every_epochs is None:
            return False
        return step % (self.save_every_epochs * self.steps_per_epoch) == 0

    def is_rest(self, batch: Batch) -> bool:
        """Tell whether a global batch is so small that its statistics say little."""
        return 2 * batch.batch_rows < self.full_batch_rows

    def input_px(self, epoch: int) -> int:
        """Return the side of the network's input in one epoch, counted from 0."""
        if self.progressive is None:
            return self.augment.crop_px
        epochs = self.total_steps // self.steps_per_epoch
        return self.progressive.side_at(epoch=epoch, epochs=epochs, crop_px=self.augment.crop_px)
