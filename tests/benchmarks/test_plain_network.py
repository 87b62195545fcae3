import pytest
import torch

from alexnet.model.alexnet_2012 import AlexNet2012
from benchmarks.plain_network import plain_twin


@pytest.fixture(scope="module")
def ours() -> AlexNet2012:
    torch.manual_seed(0)
    return AlexNet2012(num_classes=7, image_size=64, width=0.1, dropout=0.0, init="fan-in")


def test_the_plain_network_computes_what_ours_does_gradients_included(ours: AlexNet2012) -> None:
    plain = plain_twin(ours, dropout=0.0)
    images = torch.randn(4, 3, 64, 64) * 60
    logits = ours(images)
    torch.testing.assert_close(plain(images), logits, rtol=1e-4, atol=1e-4)
    logits.square().sum().backward()
    plain(images).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-3)


def test_the_plain_network_has_weights_of_its_own_in_torchs_usual_layout(
    ours: AlexNet2012,
) -> None:
    plain = plain_twin(ours)
    shared = {weight.data_ptr() for weight in ours.parameters()}
    for weight in plain.parameters():
        assert weight.is_contiguous()
        assert weight.data_ptr() not in shared
