import pytest
import torch
from torch import nn

from benchmarks.norm_copies import HEAD, Way, measure_ways, of_copies, rows


def test_backward_must_move_what_one_and_a_half_copies_do() -> None:
    """3 ms beside a copy of 2 ms are one and a half of it, and 6 ms two times that."""
    assert of_copies([3.0, 6.0], [2.0, 2.0], 1.5) == (1.0, 2.0)
    assert of_copies([3.0], [2.0], 1.0) == (1.5,)


@pytest.mark.parametrize(("ratios", "verdict"), [((1.0, 1.3, 9.0), "holds"), ((1.4,), "MISSED")])
def test_the_median_is_held_against_the_ceiling(ratios: tuple[float, ...], verdict: str) -> None:
    way = Way(name="ours", times_ms=(1.0,), of_copies=ratios, kernels=1, ceiling=1.3)
    assert rows([way])[0][-1] == f"1.3 {verdict}"


def test_without_a_ceiling_nothing_holds_or_fails() -> None:
    way = Way(name="torch's", times_ms=(1.0,), of_copies=(2.0,), kernels=9, ceiling=None)
    assert way.holds is None
    assert rows([way]) == [["torch's", "1.000", "2.00", "2.00", "2.00", "9", ""]]
    assert len(HEAD) == 7


def test_both_directions_of_a_norm_are_timed() -> None:
    maps = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    ways = measure_ways("torch's", nn.LocalResponseNorm(5), maps, 4, 1.3)
    assert [way.name for way in ways] == ["torch's, forward", "torch's, backward"]
    assert all(len(way.times_ms) == len(way.of_copies) == 4 for way in ways)
    assert all(way.kernels == 0 for way in ways)  # a CPU launches none
