import pytest
import torch
from torch import nn

from alexnet.train.average import WeightAverage


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("running_mean", torch.zeros(2))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def move(self, step: int) -> None:
        with torch.no_grad():
            for tensor in self.state_dict().values():
                tensor += step


def trained(average: WeightAverage, network: Network, steps: range) -> list[float]:
    """The weight after each of the steps."""
    weights = []
    for step in steps:
        network.move(step)
        average.update(step)
        weights.append(float(network.weight.detach()[0]))
    return weights


def test_it_is_the_ramped_exponential_average_of_all_updates() -> None:
    network = Network()
    average = WeightAverage(network, 0.9)
    expected = 0.0
    for step, weight in enumerate(trained(average, network, range(1, 201)), start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    state = average.state()
    assert state["weight"].tolist() == pytest.approx([expected] * 3)
    assert state["running_mean"].tolist() == pytest.approx([expected] * 2)
    assert state["batches"] == network.batches  # a counter has no average
    assert expected < float(network.weight.detach()[0])


def test_weights_that_stay_are_their_own_average() -> None:
    network = Network()
    network.move(7)
    average = WeightAverage(network, 0.999)
    for step in range(1, 50):
        average.update(step)
    assert torch.equal(average.state()["weight"], network.weight)


def test_saved_and_loaded_it_goes_on_to_the_bit() -> None:
    whole, network = Network(), Network()
    undisturbed = WeightAverage(whole, 0.99)
    trained(undisturbed, whole, range(1, 60))
    first = WeightAverage(network, 0.99)
    trained(first, network, range(1, 20))
    saved = {name: tensor.clone() for name, tensor in first.state().items()}
    second = WeightAverage(network, 0.99)
    second.load(saved)
    trained(second, network, range(20, 60))
    for name, tensor in undisturbed.state().items():
        assert torch.equal(second.state()[name], tensor)
