"""Stage 8 of 11, evaluate: one block of 64 rows in, each image's result out."""

from collections.abc import Sequence

import torch
from torch import nn

from alexnet.data.augment import Augment
from alexnet.evaluate.blocks import Block, BlockReader
from alexnet.evaluate.metrics import judge_rows
from alexnet.evaluate.rows import BlockResult, View
from alexnet.evaluate.scores import score


class BlockEvaluator:
    """Evaluates blocks of rows with one network, on one device.

    A block's result depends on the block alone; on a CPU also on the number of threads, which the
    caller fixes.

    Args:
        reader: of the split.
        model: in evaluation mode, on the device.
        augment: normalises as in the model's training, on the device.
        crop_px: side of a view.
        views: which ones to score.
        stored_px: side of the squares that views are cut from, where it is not the dataset's.
    """

    def __init__(
        self,
        reader: BlockReader,
        model: nn.Module,
        augment: Augment,
        *,
        crop_px: int,
        views: Sequence[View],
        stored_px: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._reader = reader
        self._model = model
        self._augment = augment
        self._crop_px = crop_px
        self._views = tuple(views)
        self._stored_px = stored_px
        self._device = device

    def evaluate(self, block: Block) -> BlockResult:
        """Read a block and score its images.

        Raises:
            ShardCorrupt, ImageRejected: stored bytes are damaged.
            DataError: the network gives no numbers.
        """
        rows = self._reader.read(block)
        images = torch.from_numpy(rows.decode(self._stored_px)).to(self._device)
        labels = torch.from_numpy(rows.labels.copy()).to(self._device)
        views = {
            view: judge_rows(score(self._model, self._augment, images, self._crop_px, view), labels)
            for view in self._views
        }
        return BlockResult(rows.sample_ids, rows.labels, views)
