from collections.abc import Iterator

import pytest
import torch

from alexnet.settings import Precision
from alexnet.train.precision import forward_in, multiplying_in


def switches() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = switches()
    yield
    assert switches() == before


@pytest.mark.parametrize(
    ("precision", "rounds"), [("fp32", False), ("tf32", True), ("bf16", False)]
)
def test_convolutions_and_products_round_alike(precision: Precision, rounds: bool) -> None:
    before = switches()
    with multiplying_in(precision):
        assert switches() == (rounds, rounds)
    assert switches() == before


def test_the_switches_are_put_back_after_an_error() -> None:
    before = switches()
    with pytest.raises(RuntimeError, match="diverged"), multiplying_in("tf32"):
        raise RuntimeError("diverged")
    assert switches() == before


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)],
)
def test_the_forward_pass_runs_in(precision: Precision, dtype: torch.dtype) -> None:
    with forward_in(precision, torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == dtype
