import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from alexnet import create_model
from alexnet.train import compiled
from alexnet.train.compiled import compile_network
from alexnet.train.step import train_step
from infra.errors import RecipeError

IMAGE_PX = 67

# torch's own compiler imports what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = create_model(name, num_classes=10, width=0.05, image_size=IMAGE_PX)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out


def train(network: nn.Module) -> list[float]:
    """Steps of several sizes, one of them without images."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    draw = torch.Generator().manual_seed(1)
    for rows in (6, 0, 5):
        images = torch.randn(rows, 3, IMAGE_PX, IMAGE_PX, generator=draw)
        loss = train_step(
            network,
            optimizer,
            images.contiguous(memory_format=torch.channels_last),
            torch.arange(rows) % 10,
            torch.arange(rows),
            world_size=1,
            batch_rows=6,
        )
        losses.append(float(loss))
    return losses


# The second has gradients of zero where torch chooses the layout.
@needs_compiler
@pytest.mark.parametrize("name", ["alexnet-2012", "alexnet-torchvision"])
def test_a_compiled_network_trains_as_it_would_without(name: str) -> None:
    network, reference = network_of(name), network_of(name)
    compile_network(network, IMAGE_PX)
    assert network.training
    assert network.state_dict().keys() == reference.state_dict().keys()
    for key, tensor in reference.state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], tensor, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in network.parameters())
    torch.testing.assert_close(train(network), train(reference), rtol=1e-4, atol=1e-5)


class Wrong(nn.Module):
    """Another function when compiled."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 10)
        self.factor = factor

    def forward(self, images: torch.Tensor, sample_keys: torch.Tensor) -> torch.Tensor:
        pixels = images.mean((2, 3))
        if torch.compiler.is_compiling():
            pixels = pixels * self.factor
        return self.linear(pixels)


@pytest.mark.parametrize("factor", [0.0, 1.1, float("nan")])
def test_another_function_is_refused_by_name(factor: float) -> None:
    network = Wrong(factor)
    network.compile = lambda **_: nn.Module.compile(network, backend="aot_eager")  # type: ignore[method-assign]  # quick
    with pytest.raises(RecipeError, match=r"the gradient of linear\.weight differs") as caught:
        compile_network(network, 8)
    assert "scaling.compile to false" in caught.value.remedy


def fail_when_compiled(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    calls = iter([compiled._gradients] * len(compiled.SIZES) + [fail])
    monkeypatch.setattr(compiled, "_gradients", lambda *args: next(calls)(*args))


def test_what_cannot_be_compiled_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    fail_when_compiled(monkeypatch, TorchDynamoException("no C++ compiler\nand much advice"))
    with pytest.raises(RecipeError) as caught:
        compile_network(Wrong(1.0), 8)
    assert caught.value.problem == "torch.compile failed: no C++ compiler"


def test_a_lost_peer_is_no_missing_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train starts the group again after it; after a recipe's error nobody does."""
    fail_when_compiled(monkeypatch, RuntimeError("Connection closed by peer"))
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        compile_network(Wrong(1.0), 8)


def test_a_gradient_that_is_no_number_is_found_behind_sound_ones() -> None:
    own = {"first": torch.ones(2), "second": torch.ones(2)}
    with pytest.raises(RecipeError, match="the gradient of second differs"):
        compiled._refuse_others(own, own | {"second": torch.tensor([1.0, float("nan")])}, 0.1)
    compiled._refuse_others(own, own, 0.1)
