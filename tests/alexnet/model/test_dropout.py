import numpy as np
import pytest
import torch
from torch import Tensor

from alexnet.counter_rng import keys_of, stream_key
from alexnet.counter_rng_torch import keys_to_tensor
from alexnet.model import KeyedDropout, ModelError


def sample_keys(*sample_ids: int, epoch: int = 0) -> Tensor:
    ids = np.array(sample_ids, dtype=np.int64)
    return keys_to_tensor(keys_of(stream_key(0, "dropout", epoch), ids))


def test_training_keeps_or_zeroes_without_rescaling() -> None:
    x = torch.full((64, 1000), 3.0)
    dropped = KeyedDropout(0.5, stream=6)(x, sample_keys(*range(64)))
    assert set(dropped.unique().tolist()) == {0.0, 3.0}
    # Four standard deviations of the share kept among 64,000 draws.
    assert (dropped > 0).float().mean().item() == pytest.approx(0.5, abs=0.008)


def test_evaluation_multiplies_by_keep() -> None:
    x = torch.randn(4, 10)
    layer = KeyedDropout(0.3, stream=6).eval()
    assert torch.equal(layer(x), x * 0.3)
    assert torch.equal(layer(x, sample_keys(0, 1, 2, 3)), x * 0.3)


def test_inverted_rescales_in_training_and_leaves_evaluation_alone() -> None:
    x = torch.full((64, 1000), 3.0)
    layer = KeyedDropout(0.8, stream=6, inverted=True)
    dropped = layer(x, sample_keys(*range(64)))
    assert dropped.unique().tolist() == pytest.approx([0.0, 3.75])
    assert dropped.mean().item() == pytest.approx(3.0, rel=0.01)
    assert torch.equal(layer.eval()(x), x)


def test_a_sample_has_the_same_mask_alone_and_in_any_batch() -> None:
    layer = KeyedDropout(0.5, stream=6)
    together = layer(torch.ones(5, 4, 3, 3), sample_keys(7, 1, 9, 3, 0))
    reordered = layer(torch.ones(2, 4, 3, 3), sample_keys(3, 9))
    alone = layer(torch.ones(1, 4, 3, 3), sample_keys(9))
    assert torch.equal(together[2], alone[0])
    assert torch.equal(together[[3, 2]], reordered)


def test_the_first_units_kept_are_pinned() -> None:
    # If these change, a resumed run drops other units than the one it continues.
    kept = KeyedDropout(0.5, stream=6)(torch.ones(2, 16), torch.tensor([0, 1])).int().tolist()
    assert kept == [
        [1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0, 1],
        [0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0],
    ]


def test_keyed_masks_ignore_and_leave_alone_torchs_generator() -> None:
    layer = KeyedDropout(0.5, stream=6)
    torch.manual_seed(1)
    first = layer(torch.ones(2, 100), sample_keys(0, 1))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, layer(torch.ones(2, 100), sample_keys(0, 1)))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("stream", "keys"),
    [(7, sample_keys(0)), (6, sample_keys(1)), (6, sample_keys(0, epoch=1))],
    ids=["layer", "sample", "epoch"],
)
def test_another_layer_sample_or_epoch_has_an_independent_mask(stream: int, keys: Tensor) -> None:
    units = torch.ones(1, 40_000)
    first = KeyedDropout(0.5, stream=6)(units, sample_keys(0))
    other = KeyedDropout(0.5, stream=stream)(units, keys)
    # 0.02 is four standard deviations of a correlation over 40,000 units.
    assert abs(torch.corrcoef(torch.cat([first, other]))[0, 1].item()) < 0.02


def test_the_mask_is_the_same_in_the_backward_pass() -> None:
    x = torch.ones(3, 50, requires_grad=True)
    dropped = KeyedDropout(0.5, stream=6)(x, sample_keys(0, 1, 2))
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


def test_without_keys_training_draws_from_torchs_generator() -> None:
    layer = KeyedDropout(0.5, stream=6)
    torch.manual_seed(3)
    first = layer(torch.ones(4, 100))
    second = layer(torch.ones(4, 100))
    torch.manual_seed(3)
    assert torch.equal(first, layer(torch.ones(4, 100)))
    assert not torch.equal(first, second)


def test_keeping_everything_changes_nothing() -> None:
    x = torch.randn(2, 5)
    layer = KeyedDropout(1.0, stream=6)
    assert torch.equal(layer(x, sample_keys(0, 1)), x)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("keys", [None, sample_keys()], ids=["own", "keyed"])
def test_an_empty_batch_passes_both_ways(keys: Tensor | None) -> None:
    x = torch.zeros(0, 8, requires_grad=True)
    dropped = KeyedDropout(0.5, stream=6)(x, keys)
    dropped.sum().backward()
    assert dropped.shape == (0, 8)
    assert x.grad is not None


def test_the_dtype_stays() -> None:
    x = torch.ones(2, 8, dtype=torch.bfloat16)
    assert KeyedDropout(0.5, stream=6)(x, sample_keys(0, 1)).dtype == torch.bfloat16


@pytest.mark.parametrize("keys", [sample_keys(0, 1), sample_keys(0, 1, 2).int()])
def test_keys_that_do_not_fit_the_batch_are_refused(keys: Tensor) -> None:
    with pytest.raises(ModelError, match="one int64 key for each of the 3 samples"):
        KeyedDropout(0.5, stream=6)(torch.ones(3, 8), keys)


@pytest.mark.parametrize(("keep", "stream"), [(0.0, 1), (1.1, 1), (0.5, 0)])
def test_settings_out_of_range_are_refused(keep: float, stream: int) -> None:
    with pytest.raises(ModelError):
        KeyedDropout(keep, stream)


def test_the_settings_are_shown() -> None:
    assert repr(KeyedDropout(0.5, stream=6)) == "KeyedDropout(keep=0.5, stream=6, inverted=False)"
