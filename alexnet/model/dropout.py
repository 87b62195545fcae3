"""Dropout whose mask belongs to the sample: the same on any rank, in any batch, after a restart."""

import torch
from torch import Tensor, nn

from alexnet.counter_rng_torch import draw_bits, draw_uniform
from alexnet.model.errors import ModelError


class KeyedDropout(nn.Module):
    """Drop units at random, each sample's mask drawn from that sample's key and nothing else.

    As in 2012: training multiplies by a mask of zeros and ones and does **not** rescale;
    evaluation multiplies by `keep`. Inverted, as torch has it: training divides the mask by
    `keep`, evaluation changes nothing.

    Args:
        keep: probability that a unit stays, above 0 and at most 1; at 1 nothing is drawn.
        stream: a small positive number of the layer's own; layers with different numbers draw
            independent masks from the same keys.
        inverted: which of the two conventions.

    Raises:
        ModelError: `keep` or `stream` out of range.

    Source:
        `HiddenSexLayer::fpropActs` in the 2012 release's `layer.cu`.
    """

    def __init__(self, keep: float, stream: int, *, inverted: bool = False) -> None:
        super().__init__()
        if not 0 < keep <= 1:
            raise ModelError(f"keep is {keep}", "give a probability above 0 and at most 1")
        if stream < 1:
            raise ModelError(f"stream is {stream}", "give a number from 1, another for each layer")
        self.keep = keep
        self.stream = stream
        self.inverted = inverted

    def forward(self, x: Tensor, sample_keys: Tensor | None = None) -> Tensor:
        """Return x with units dropped (training) or scaled (evaluation); same shape and dtype.

        Args:
            x: (batch, ...), any float dtype; an empty batch is fine.
            sample_keys: int64 (batch,) on x's device, as of `counter_rng_torch.keys_to_tensor`.
                Without, training draws from torch's own generator; evaluation needs none.

        Raises:
            ModelError: keys of another dtype, or not one per sample.
        """
        if self.keep == 1:
            return x
        if not self.training:
            return x if self.inverted else x * self.keep
        mask = self._own_mask(x) if sample_keys is None else self._keyed_mask(x, sample_keys)
        return x * (mask / self.keep if self.inverted else mask)

    def _own_mask(self, x: Tensor) -> Tensor:
        return torch.empty_like(x).bernoulli_(self.keep)

    def _keyed_mask(self, x: Tensor, sample_keys: Tensor) -> Tensor:
        if sample_keys.dtype != torch.int64 or sample_keys.shape != x.shape[:1]:
            raise ModelError(
                f"sample_keys are {sample_keys.dtype} of shape {tuple(sample_keys.shape)}",
                f"give one int64 key for each of the {x.shape[0]} samples",
            )
        # The layer's key is the sample's draw number `stream`: mixed bits, so that no two layers
        # or samples walk through overlapping sequences.
        layer_keys = draw_bits(sample_keys, self.stream)[:, -1]
        uniform = draw_uniform(layer_keys, x.shape[1:].numel())
        return (uniform < self.keep).view(x.shape).to(x.dtype)

    def extra_repr(self) -> str:
        """Show the settings where a printed network lists its layers."""
        return f"keep={self.keep}, stream={self.stream}, inverted={self.inverted}"
