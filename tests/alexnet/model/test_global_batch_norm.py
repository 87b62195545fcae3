from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

from alexnet.model import AlexNetBn
from alexnet.model.global_batch_norm import EPS, GlobalBatchNorm

SHARES = ((0, 5), (5, 8), (8, 8))
"""Rows of each rank: unequal, and none."""


def _reference(norm: GlobalBatchNorm) -> nn.BatchNorm2d:
    reference = nn.BatchNorm2d(len(norm.weight), eps=EPS, momentum=0.1)
    reference.load_state_dict(norm.state_dict() | {"num_batches_tracked": torch.tensor(0)})
    return reference


def test_one_process_normalises_as_torch_does_and_keeps_moving_averages() -> None:
    torch.manual_seed(0)
    norm = GlobalBatchNorm(3)
    reference = _reference(norm)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5) * 2 + 1
        assert torch.equal(norm(x), reference(x))
    assert torch.equal(norm.running_mean, reference.running_mean)
    assert torch.equal(norm.running_var, reference.running_var)
    norm.eval(), reference.eval()
    assert torch.equal(norm(x), reference(x))


@pytest.mark.parametrize("rest", [(), (1, 1)], ids=["row", "one-pixel"])
def test_a_single_value_a_channel_gives_the_shift(rest: tuple[int, ...]) -> None:
    """A last batch of one image, in a fully connected layer; its variance is none, so 0."""
    norm = _norm()
    x = torch.randn(1, 3, *rest, requires_grad=True)
    y = norm.train()(x)
    assert torch.equal(y, norm.bias.view_as(x))
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert torch.equal(norm.weight.grad, torch.zeros(3))
    assert torch.equal(norm.bias.grad, torch.ones(3))
    torch.testing.assert_close(norm.running_mean, 0.1 * x.detach().flatten())
    torch.testing.assert_close(norm.running_var, torch.full((3,), 0.9))


def _start(rank: int, meeting: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=len(SHARES)
    )


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 3, 4, 4, generator=generator) * 3 + torch.tensor([5.0, -2, 0])[:, None, None]
    return x, torch.randn(8, 3, 4, 4, generator=generator)


def _norm() -> GlobalBatchNorm:
    norm = GlobalBatchNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.5, 0.5, -1.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    return norm


def _normalise_a_share(rank: int, meeting: str, folder: str) -> None:
    _start(rank, meeting)
    norm, (x, gradient), (start, stop) = _norm(), _batch(), SHARES[rank]
    share = x[start:stop].clone().requires_grad_()
    y = norm(share)
    y.backward(gradient[start:stop])
    found = {"y": y.detach(), "x": share.grad, "mean": norm.running_mean, "var": norm.running_var}
    for name, parameter in norm.named_parameters():
        torch.distributed.all_reduce(parameter.grad)
        found[name] = parameter.grad
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture
def in_ranks(tmp_path: Path) -> Callable[[Any], list[dict[str, Tensor]]]:
    def run(worker: Any) -> list[dict[str, Tensor]]:
        torch.multiprocessing.start_processes(
            worker,
            (str(tmp_path / "meeting"), str(tmp_path)),
            nprocs=len(SHARES),
            start_method="fork",
        )
        return [torch.load(tmp_path / f"{rank}.pt") for rank in range(len(SHARES))]

    return run


def test_ranks_with_unequal_shares_normalise_as_one_process(in_ranks: Any) -> None:
    reference = _reference(_norm())
    x, gradient = _batch()
    x.requires_grad_()
    expected = reference(x)
    expected.backward(gradient)
    found = in_ranks(_normalise_a_share)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(torch.cat([f["y"] for f in found]), expected.detach(), **close)
    torch.testing.assert_close(torch.cat([f["x"] for f in found]), x.grad, **close)
    for of_rank in found:
        torch.testing.assert_close(of_rank["mean"], reference.running_mean, **close)
        torch.testing.assert_close(of_rank["var"], reference.running_var, **close)
        torch.testing.assert_close(of_rank["weight"], reference.weight.grad, **close)
        torch.testing.assert_close(of_rank["bias"], reference.bias.grad, **close)


def _take_a_step(rank: int, meeting: str, folder: str) -> None:
    _start(rank, meeting)
    torch.save(_after_steps(rank, [SHARES[rank]]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _end_with_one_image(rank: int, meeting: str, folder: str) -> None:
    _start(rank, meeting)
    shares = [SHARES[rank], (0, 1) if rank == 0 else (1, 1)]
    torch.save(_after_steps(rank, shares), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _after_steps(rank: int | None, shares: list[tuple[int, int]]) -> dict[str, Tensor]:
    """The network after steps of DDP's, or of one process where there is no rank."""
    from alexnet.settings import OptimizerSettings
    from alexnet.train.optimizer import build_optimizer, set_rates
    from alexnet.train.schedule import Rates
    from alexnet.train.step import StepInputs, train_step

    torch.manual_seed(0)
    network = AlexNetBn(num_classes=4, image_size=16, width=0.1, variant="small-images")
    optimizer = build_optimizer(network, OptimizerSettings(nesterov=True))
    set_rates(optimizer, Rates(weight_rate=0.01, bias_rate=0.01))
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 4
    model = network if rank is None else nn.parallel.DistributedDataParallel(network)
    for (start, stop), batch_rows in zip(shares, (8, 1), strict=False):
        train_step(
            model.train(),
            optimizer,
            StepInputs(images[start:stop], labels[start:stop], torch.arange(start, stop)),
            world_size=1 if rank is None else len(SHARES),
            batch_rows=batch_rows,
        )
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("worker", "batches"), [(_take_a_step, [8]), (_end_with_one_image, [8, 1])]
)
def test_steps_of_ranks_some_without_rows_are_those_of_one_process(
    in_ranks: Any, worker: Any, batches: list[int]
) -> None:
    expected = _after_steps(None, [(0, rows) for rows in batches])
    for found in in_ranks(worker):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
