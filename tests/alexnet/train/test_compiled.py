import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from alexnet import create_model
from alexnet.train import compiled
from alexnet.train.compiled import compile_network
from alexnet.train.step import StepInputs, train_step
from infra.errors import RecipeError

IMAGE_PX = 67

# torch's own compiler imports what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(optimize_ddp=True):  # as torch has it, and again at the end
        yield
    torch._dynamo.reset()


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = create_model(name, num_classes=10, width=0.05, image_size=IMAGE_PX)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out


def train(network: nn.Module) -> list[float]:
    """Steps of several sizes, one of them without images, one with a single one."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    draw = torch.Generator().manual_seed(1)
    for rows in (6, 0, 5, 1):
        images = torch.randn(rows, 3, IMAGE_PX, IMAGE_PX, generator=draw)
        loss = train_step(
            network,
            optimizer,
            StepInputs(
                images.contiguous(memory_format=torch.channels_last),
                torch.arange(rows) % 10,
                torch.arange(rows),
            ),
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
    with torch.compiler.set_stance("fail_on_recompile"):  # nothing that nobody has looked at
        losses = train(network)
    torch.testing.assert_close(losses, train(reference), rtol=1e-4, atol=1e-5)


def without_code(network: nn.Module) -> nn.Module:
    """Have a network compiled as far as torch's own operations, which is quick."""
    network.compile = lambda **_: nn.Module.compile(network, backend="aot_eager")  # type: ignore[method-assign]  # quick
    return network


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
    network = without_code(Wrong(factor))
    with pytest.raises(RecipeError, match=r"the gradient of linear\.weight differs") as caught:
        compile_network(network, 8)
    assert "scaling.compile to false" in caught.value.remedy


class WindowLost(nn.Module):
    """A response norm, whose sums may be left out by a compiler."""

    def __init__(self, *, is_lost: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.linear = nn.Linear(8, 10)
        self.is_lost = is_lost

    def forward(self, images: torch.Tensor, sample_keys: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        sums = nn.functional.avg_pool3d(
            maps.square().unsqueeze(1), (5, 1, 1), stride=1, padding=(2, 0, 0)
        )
        if self.is_lost and torch.compiler.is_compiling():
            sums = torch.zeros_like(sums)
        normed = maps / (2 + 1e-4 * sums.squeeze(1)) ** 0.75
        return self.linear(normed.relu().mean((2, 3)))


def test_a_norm_whose_window_is_lost_is_refused() -> None:
    """With the weights that it starts from nobody would see it: 2 + 1e-6 is 2."""
    compile_network(without_code(WindowLost(is_lost=False)), 8)
    with pytest.raises(RecipeError, match=r"the gradient of .* differs"):
        compile_network(without_code(WindowLost(is_lost=True)), 8)


def test_parameters_and_buffers_are_as_before_even_of_a_network_that_is_refused() -> None:
    network = WindowLost(is_lost=True)
    network.register_buffer("seen", torch.ones(3))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(RecipeError):
        compile_network(without_code(network), 8)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_nothing_is_compiled_anew_under_ddp(tmp_path: Path) -> None:
    """Nor would anything be cut where its buckets end."""
    network = create_model("alexnet-torchvision", num_classes=10, width=0.05, image_size=IMAGE_PX)
    compile_network(without_code(network), IMAGE_PX)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    try:
        with torch.compiler.set_stance("fail_on_recompile"):
            train(nn.parallel.DistributedDataParallel(network))
        assert not torch._dynamo.config.optimize_ddp
    finally:
        gc.collect()  # DDP lies in a cycle and holds the group
        torch.distributed.destroy_process_group()


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
