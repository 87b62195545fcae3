import pytest
import torch

from alexnet.device_copies import CopyBeside, to_device

CPU = torch.device("cpu")


def test_on_a_cpu_nothing_is_copied() -> None:
    tensor = torch.arange(3)
    assert to_device(tensor, "cpu") is tensor
    assert CopyBeside(CPU)(tensor) is tensor


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_arrive_whole_while_the_gpu_computes() -> None:
    device = torch.device("cuda")
    copy, factor = CopyBeside(device), torch.randn(4096, 4096, device=device)
    sums = []
    for number in range(8):
        for _ in range(10):  # so that the copy of the next one comes first
            factor = (factor @ factor).sign()
        sums.append(copy(torch.full((1 << 24,), number, dtype=torch.uint8)).sum())
        sums.append(to_device(torch.full((3,), number), device).sum())
    assert [int(total) for total in sums] == [
        total for number in range(8) for total in (number << 24, 3 * number)
    ]
