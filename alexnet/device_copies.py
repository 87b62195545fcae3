"""Copies from memory to a device that do not wait for what the device is computing."""

from collections import deque
from typing import Final

import torch
from torch import Tensor

IN_FLIGHT: Final = 2
"""Steps that the loop may be ahead of the GPU."""


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor from memory to a device; to a GPU by way of pinned memory.

    From other memory torch would wait until the GPU has done all that it was given before.
    """
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class CopyBeside:
    """`to_device` of what is large: it crosses while the GPU still computes the step before.

    Args:
        device: to which; of a CPU it is `to_device`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._used = deque[torch.cuda.Event](maxlen=IN_FLIGHT)
        self._stream = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it so

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return the copy, which the current stream can use."""
        if self._stream is None:
            return to_device(tensor, self._device)
        computing = torch.cuda.current_stream(self._device)
        if len(self._used) == IN_FLIGHT:
            # Nothing else bounds how far the loop runs ahead, and each copy holds memory of both.
            self._used[0].synchronize()
        self._used.append(computing.record_event())  # of the step before this copy's
        with torch.cuda.stream(self._stream):
            copy = to_device(tensor, self._device)
        computing.wait_stream(self._stream)
        # Its memory belongs to the copying stream, which may not have it back too early.
        copy.record_stream(computing)
        return copy
