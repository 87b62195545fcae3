"""The counter-based generator on the device: the same bits as `counter_rng`, from int64 tensors.

Torch has no unsigned 64-bit arithmetic worth the name, so keys are the same bits read as int64:
sums and products wrap alike, and only the right shifts need a mask.
"""

import numpy as np
import torch
from torch import Tensor

from alexnet.counter_rng import GOLDEN, MIX_1, MIX_2, Keys
from alexnet.device_copies import to_device


def keys_to_tensor(keys: Keys, device: torch.device | str = "cpu") -> Tensor:
    """Carry numpy keys to the device: int64 with the same bits, shape (n,)."""
    return to_device(torch.from_numpy(keys.view(np.int64).copy()), device)


def draw_bits(keys: Tensor, count: int) -> Tensor:
    """Draw 64 random bits for each key, `count` times: int64, shape (n, count)."""
    steps = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device) * _signed(GOLDEN)
    return _mix(keys[:, None] + steps[None, :])


def draw_uniform(keys: Tensor, count: int) -> Tensor:
    """Draw `count` numbers in [0, 1) for each key: float32 of the upper 24 bits, (n, count)."""
    return _shift_right(draw_bits(keys, count), 40).to(torch.float32) * 2.0**-24


def draw_normal(keys: Tensor, count: int) -> Tensor:
    """Draw `count` standard normal numbers for each key (Box-Muller): float32, (n, count)."""
    uniform = draw_uniform(keys, 2 * count)
    # 1 - u lies in (0, 1]: the logarithm stays finite.
    radius = torch.sqrt(-2.0 * torch.log1p(-uniform[:, :count]))
    return radius * torch.cos(2.0 * torch.pi * uniform[:, count:])


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _signed(MIX_1)
    z = (z ^ _shift_right(z, 27)) * _signed(MIX_2)
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word
