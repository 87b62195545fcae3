import pytest
import torch
from torch import nn

from alexnet.model import AlexNetBn, ModelError, list_models

SMALL = {"num_classes": 7, "width": 0.1}


def test_parameters_are_those_of_the_published_definition() -> None:
    with torch.device("meta"):
        network = AlexNetBn()
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    assert sum(sizes.values()) == 60_966_856  # 60,965,224 - 1,120 biases + 2,752 of the norms
    assert sum(size for name, size in sizes.items() if name.startswith("norm")) == 2_752
    without_bias = {f"conv{i}" for i in (1, 2, 3, 4)}
    assert {name.removesuffix(".weight") for name in sizes if name.endswith(".weight")} - {
        name.removesuffix(".bias") for name in sizes if name.endswith(".bias")
    } == without_bias


def test_the_small_variant_is_the_one_that_was_calibrated() -> None:
    with torch.device("meta"):
        network = AlexNetBn(num_classes=10, image_size=112, width=0.5, variant="small-images")
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_068_346
    assert network.fc6.in_features == 128 * 7 * 7
    assert network.fc6.out_features == 1024


def test_the_published_start() -> None:
    torch.manual_seed(0)
    network = AlexNetBn(num_classes=100, image_size=67)
    for name, std in {
        **{f"conv{i}": 0.01 for i in range(1, 6)},
        "fc6": 0.005,
        "fc7": 0.005,
        "fc8": 0.01,
    }.items():
        weight = network.get_parameter(f"{name}.weight").detach()
        assert float(weight.std()) == pytest.approx(std, rel=0.02)
    for name, bias in {"conv5": 0.1, "fc6": 0.1, "fc7": 0.1, "fc8": 0.01}.items():
        assert network.get_parameter(f"{name}.bias").unique().tolist() == pytest.approx([bias])


def test_the_small_start_keeps_the_signals_size() -> None:
    torch.manual_seed(0)
    network = AlexNetBn(image_size=64, width=0.5, variant="small-images")
    std = float(network.conv3.weight.detach().std())
    assert std == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert float(network.fc8.weight.detach().std()) == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(("variant", "smallest"), [("nvcaffe", 39), ("small-images", 15)])
def test_any_size_from_the_smallest_works(variant: str, smallest: int) -> None:
    for size in (smallest, smallest + 1, smallest + 26):
        network = AlexNetBn(image_size=size, variant=variant, **SMALL)
        assert network(torch.zeros(2, 3, size, size)).shape == (2, 7)
    with pytest.raises(ModelError, match=f"smallest size that works is {smallest}"):
        AlexNetBn(image_size=smallest - 1, variant=variant, **SMALL)


def test_what_cannot_be_built_or_used_is_refused() -> None:
    with pytest.raises(ModelError, match="give one of nvcaffe, small-images"):
        AlexNetBn(variant="caffe")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 3, 38, 40), (1, 3, 40, 38), (1, 1, 40, 40), (3, 40, 40)])
def test_images_of_another_shape_or_too_small_are_refused(shape: tuple[int, ...]) -> None:
    network = AlexNetBn(image_size=40, **SMALL)
    with pytest.raises(ModelError, match=r"\(batch, 3, 40, 40\), or sides of at least 39"):
        network(torch.zeros(shape))


@pytest.mark.parametrize(("variant", "smallest"), [("nvcaffe", 39), ("small-images", 15)])
def test_images_of_other_sizes_are_averaged_to_the_built_one(variant: str, smallest: int) -> None:
    """From the smallest, whose last maps are of one pixel, to larger ones than it was built for."""
    network = AlexNetBn(image_size=80, variant=variant, **SMALL)
    for size in (smallest, 64, 79, 144):
        assert network(torch.randn(2, 3, size, size)).shape == (2, 7)


def test_at_the_built_size_nothing_is_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, weights and bits of what was trained before stay."""

    def refuse(*_: object) -> None:
        raise AssertionError

    network = AlexNetBn(image_size=67, **SMALL)
    assert not any("avg" in name for name, _ in network.named_modules())
    monkeypatch.setattr("alexnet.model.alexnet_bn.functional.adaptive_avg_pool2d", refuse)
    network(torch.zeros(2, 3, 67, 67))


def test_maps_of_one_pixel_are_repeated() -> None:
    network = AlexNetBn(image_size=80, **SMALL).eval()
    pooled: list[torch.Tensor] = []
    network.fc6.register_forward_hook(lambda _m, inputs, _o: pooled.append(inputs[0].detach()))
    network(torch.randn(1, 3, 39, 39))
    maps = pooled[0].view(-1, 4)
    assert torch.equal(maps, maps[:, :1].expand(-1, 4))
    assert maps.any()


def test_norms_stand_between_convolution_and_relu() -> None:
    network = AlexNetBn(image_size=40, **SMALL).train()
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> None:
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output: seen.update({name: output.detach()})
        )

    for i in range(1, 6):
        keep(f"norm{i}")
    keep("pool")
    network(torch.randn(8, 3, 40, 40))
    for i in range(1, 6):
        assert float(seen[f"norm{i}"].mean()) == pytest.approx(0, abs=1e-5)
        assert float(seen[f"norm{i}"].min()) < 0
    assert float(seen["pool"].min()) >= 0


def test_masks_follow_the_sample_not_the_batch() -> None:
    torch.manual_seed(0)
    network = AlexNetBn(image_size=40, **SMALL).train()
    for module in network.modules():
        if type(module).__name__ == "GlobalBatchNorm":
            module.eval()
    images, keys = torch.randn(4, 3, 40, 40), torch.arange(4)
    together = network(images, keys)
    alone = network(images[2:3], keys[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-6)
    assert not torch.equal(together, network(images, keys + 4))


def test_every_parameter_learns_and_only_weights_of_layers_are_decayed() -> None:
    from alexnet.settings import OptimizerSettings
    from alexnet.train.optimizer import build_optimizer

    network = AlexNetBn(image_size=16, variant="small-images", **SMALL)
    network(torch.randn(4, 3, 16, 16)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    groups = build_optimizer(network, OptimizerSettings()).param_groups
    decayed = {group["layer"] for group in groups if group["weight_decay"] > 0}
    assert decayed == {f"conv{i}" for i in range(1, 6)} | {"fc6", "fc7", "fc8"}


def test_it_is_listed() -> None:
    assert "alexnet-bn" in list_models()
    assert issubclass(AlexNetBn, nn.Module)
