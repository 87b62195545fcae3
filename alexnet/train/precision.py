"""In which numbers a step multiplies: what the word of `train.precision` is to torch.

    fp32   float32 throughout, which GPUs multiply beside their tensor cores
    tf32   factors are rounded to ten bits, sums are float32; GPUs of NVIDIA's since 2020, no others
    bf16   the forward pass, and with it the backward pass, under autocast; weights are float32

torch by itself rounds in convolutions and not in products of matrices, which is neither of the
first two.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from alexnet.settings import Precision


@contextmanager
def multiplying_in(precision: Precision) -> Iterator[None]:
    """Set torch's two switches for TF32; they hold for a process, and are put back at the end."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    rounds = precision == "tf32"
    try:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = rounds, rounds
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def forward_in(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass; the backward pass stands outside of it."""
    # Not float16: its gradients need a scaler.
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
