"""The shipped recipes against the tables of published settings: sections 4.4 to 4.10."""

from operator import attrgetter

import pytest

from alexnet.data.order import Layout, Order
from alexnet.train.schedule import Rates, rates_at
from pipelines.recipe import Recipe
from pipelines.recipe_yaml import load_recipe, recipe_text

IMAGENET = 1_281_167
CONVS, LOCALS = ("conv1", "conv2", "conv3"), ("local3", "local4")


def rates_in(recipe: Recipe, epoch: int) -> Rates:
    """At the start of an epoch, counted from 1."""
    return rates_at(
        recipe.train.schedule, epoch=epoch - 1, progress=(epoch - 1) / recipe.train.epochs
    )


def order(rows: int, batch: int) -> Order:
    return Order(Layout(64, (rows,)), seed=0, global_batch=batch)


@pytest.mark.parametrize(
    ("rows", "batch", "batches", "last"),
    [
        (IMAGENET, 128, 10_010, 15),
        (IMAGENET, 1024, 1252, 143),
        (IMAGENET, 3072, 418, 143),
        (50_000, 1024, 49, 848),
        (50_000, 3072, 17, 848),
        (150_000, 1024, 147, 496),
    ],
)
def test_batches_of_an_epoch(rows: int, batch: int, batches: int, last: int) -> None:
    """Section 8. Ours are 128 images; the release had files of 1024, its successor of 3072."""
    epoch = order(rows, batch)
    assert epoch.steps_per_epoch == batches
    sizes = [epoch.batch_rows(step) for step in (0, batches - 2, batches - 1)]
    assert sizes == [batch, batch, last]


def test_ninety_epochs_are_900_900_updates() -> None:
    recipe = load_recipe("alexnet-2012")
    steps = order(IMAGENET, recipe.train.global_batch).steps_per_epoch * recipe.train.epochs
    assert steps == 900_900


@pytest.mark.parametrize(
    ("first", "last", "conv1", "others", "conv1_bias", "noise"),
    [
        (1, 24, 1e-2, 1e-2, 0.02, 0.1),
        (25, 50, 1e-3, 1e-3, 0.02, 0.1),
        (51, 66, 1e-4, 1e-4, 0.02, 0.1),
        (67, 71, 1e-5, 1e-4, 0.02, 0),
        (72, 78, 0, 1e-4, 0, 0),
        (79, 90, 0, 1e-5, 0, 0),
    ],
)
def test_alexnet_2012_runs_by_the_log_of_net_145(
    first: int, last: int, conv1: float, others: float, conv1_bias: float, noise: float
) -> None:
    recipe = load_recipe("alexnet-2012")
    for epoch in (first, last):
        rates = rates_in(recipe, epoch)
        assert rates.of("conv1", "weight") == conv1
        assert rates.of("conv1", "bias") == conv1_bias
        assert {rates.of(name, "weight") for name in ("conv2", "conv5", "fc8")} == {others}
        assert {rates.of(name, "bias") for name in ("conv2", "conv5", "fc8")} == {0.02}
        strength = recipe.train.augment.color_noise
        assert (strength if rates.color_noise is None else rates.color_noise) == noise


def test_alexnet_2012_has_the_canonical_settings() -> None:
    recipe = load_recipe("alexnet-2012")
    train = recipe.train
    assert (train.global_batch, train.epochs) == (128, 90)
    assert train.optimizer.kind == "sgd-2012"
    assert (train.optimizer.momentum, train.optimizer.weight_decay) == (0.9, 0.0005)
    assert not train.optimizer.decay_all
    assert (recipe.prepare.stored_px, train.augment.crop_px) == (256, 224)
    assert train.augment.normalise == "mean-image"
    assert train.augment.scale == 1
    assert recipe.evaluate.ten_crop
    model = recipe.model
    assert (model.name, model.width, model.dropout, model.init) == ("alexnet-2012", 1.0, 0.5, None)
    assert (recipe.prepare.quality, load_recipe("alexnet-one-tower-90").prepare.quality) == (85, 95)
    assert (train.augment.flip, train.augment.statistics) == (True, "dataset")
    assert train.augment.resized_crop is train.augment.view_px is train.mixing is None
    assert (train.optimizer.nesterov, train.optimizer.layer_decay) == (False, {})
    assert train.optimizer.clip_norm is train.optimizer.lars_trust is train.average_decay is None
    assert (train.label_smoothing, train.precision) == (0, "fp32")


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("alexnet-2012", "40.7 % top-1, 18.2 % top-5 over ten crops"),
        ("alexnet-one-tower-90", "42.5 % top-1, 19.8 % top-5 for the centre view"),
        ("alexnet-torchvision", "43.5 % top-1, 20.9 % top-5 for the centre view"),
    ],
)
def test_what_is_expected_names_its_view_and_half_a_point(name: str, figures: str) -> None:
    text = " ".join(recipe_text(name).replace("#", " ").split())
    expected = text.partition("Expected:")[2].partition("Status:")[0]
    assert figures in expected
    assert "± 0.5" in expected


@pytest.mark.parametrize(
    ("epoch", "weight", "bias"),
    [(1, 0.01, 0.02), (24, 0.0015874, 0.02), (47, 0.000251984, 0.002), (90, 0.00004, 0.002)],
)
def test_one_tower_runs_by_cuda_convnet2(epoch: int, weight: float, bias: float) -> None:
    """Stairs end at 22.5, 45 and 67.5 of 90 epochs."""
    recipe = load_recipe("alexnet-one-tower-90")
    assert (recipe.train.global_batch, recipe.train.epochs) == (128, 90)
    assert (recipe.train.optimizer.momentum, recipe.train.optimizer.weight_decay) == (0.9, 0.0005)
    assert recipe.train.augment.color_noise == 0.1
    rates = rates_in(recipe, epoch)
    assert rates.of("conv1", "weight") == pytest.approx(weight, rel=1e-5)
    assert rates.of("fc8", "bias") == pytest.approx(bias, rel=1e-9)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(1, 1e-2), (30, 1e-2), (31, 1e-3), (60, 1e-3), (61, 1e-4), (90, 1e-4)]
)
def test_torchvisions_rate_falls_every_thirty_epochs(epoch: int, rate: float) -> None:
    recipe = load_recipe("alexnet-torchvision")
    assert (recipe.train.global_batch, recipe.train.epochs) == (8 * 32, 90)
    assert (recipe.train.optimizer.momentum, recipe.train.optimizer.weight_decay) == (0.9, 1e-4)
    assert recipe.train.optimizer.decay_all
    assert recipe.train.augment.statistics == "torchvision"
    assert recipe.train.optimizer.kind == "sgd"  # the reference script's, torch.optim.SGD
    assert rates_in(recipe, epoch) == Rates(weight_rate=rate, bias_rate=rate)


def test_lars_at_32k_ramps_up_in_400_of_4000_updates() -> None:
    """Section 4.8; nvcaffe says "10 epochs" and "100 epochs" of 40 updates."""
    recipe = load_recipe("alexnet-bn-lars-32k")
    train = recipe.train
    steps = order(IMAGENET, train.global_batch).steps_per_epoch
    assert (train.global_batch, steps, steps * train.epochs) == (32_768, 40, 4_000)
    optimizer = train.optimizer
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 0.0005)
    assert (optimizer.lars_trust, optimizer.decay_all) == (0.001, True)
    assert train.augment.scale == 1 / 256

    def rate(update: int) -> float:
        return rates_at(train.schedule, epoch=update // 40, progress=update / 4000).weight_rate

    assert rate(0) == pytest.approx(1)
    assert rate(200) == pytest.approx(16.5)
    assert rate(400) == pytest.approx(32 * 0.9**2)
    assert rate(2000) == pytest.approx(32 / 4)


# Section 4.9: the epochs of the two drops and of the end; the decay of each layer.
CIFAR = {
    "cifar-18pct": ((121, 131), 140, dict.fromkeys(CONVS, 0.004) | {"fc10": 1.0}),
    "cifar-13pct": (
        (501, 511),
        520,
        dict.fromkeys(CONVS[:2], 0.0) | dict.fromkeys((*LOCALS, "fc10"), 0.004),
    ),
    "cifar-11pct": (
        (501, 511),
        520,
        dict.fromkeys(CONVS[:2], 0.0) | dict.fromkeys(LOCALS, 0.004) | {"fc10": 0.01},
    ),
}


@pytest.mark.parametrize("name", list(CIFAR))
def test_cifar_runs_by_the_files_of_cuda_convnet(name: str) -> None:
    (second, third), epochs, decays = CIFAR[name]
    recipe = load_recipe(name)
    train, optimizer = recipe.train, recipe.train.optimizer
    assert (train.global_batch, train.epochs) == (128, epochs)
    assert (optimizer.momentum, optimizer.decay_all) == (0.9, False)
    found = {layer: optimizer.layer_decay.get(layer, optimizer.weight_decay) for layer in decays}
    assert found == decays
    assert set(optimizer.layer_decay) <= set(decays)
    for epoch, rate in [(1, 1e-3), (second - 1, 1e-3), (second, 1e-4), (third - 1, 1e-4)]:
        assert rates_in(recipe, epoch) == Rates(weight_rate=rate, bias_rate=0.002)
    for epoch in (third, epochs):
        assert rates_in(recipe, epoch) == Rates(weight_rate=1e-5, bias_rate=0.002)
    assert train.augment.color_noise == 0
    assert train.augment.scale == 1


# What none of them had: later inventions, and what section 4.2 says that there was not.
NOT_YET = {
    "model.width": 1.0,
    "model.init": None,
    "train.precision": "fp32",
    "train.label_smoothing": 0,
    "train.average_decay": None,
    "train.mixing": None,
    "train.progressive": None,
    "train.optimizer.nesterov": False,
    "train.optimizer.clip_norm": None,
    "train.augment.jitter": None,
    "train.augment.erase": None,
    "train.augment.view_px": None,
}
# Section 5.2: CIFAR-10's cropped provider draws for each image, and tests nine views.
CIFAR_CROPPED = {
    "train.augment.crop_px": 24,
    "train.augment.crop_sharing": 1,
    "train.augment.flip": True,
    "evaluate.nine_crop": True,
    "evaluate.ten_crop": False,
}
# Section 4.9: 0..255 less the mean image, by the rule of 4.2; no dropout in the tables of 2.6.
CIFAR_ALL = {
    "prepare.stored_px": 32,
    "prepare.encoding": "raw",
    "train.augment.normalise": "mean-image",
    "train.augment.statistics": "dataset",
    "train.augment.resized_crop": None,
    "train.optimizer.kind": "sgd-2012",
    "model.dropout": 0,
}
SETTINGS = {
    "alexnet-bn-lars-32k": {
        "2.7": {
            "model.name": "alexnet-bn-last",  # train_val2
            "model.variant": None,
            "model.dropout": 0.5,
            "train.augment.crop_px": 227,
            "train.augment.normalise": "mean-image",
            "train.augment.statistics": "dataset",
            "train.augment.flip": True,
            "train.augment.color_noise": 0,
            "train.augment.resized_crop": None,
        },
        "4.8": {
            "train.optimizer.kind": "sgd-2012",  # Caffe's: the rate is inside the velocity
            "train.optimizer.layer_decay": {},
        },
    },
    "alexnet-one-tower-90": {
        "2.3": {"model.name": "alexnet-one-tower", "model.dropout": 0.5},
        "4.6": {
            "train.optimizer.kind": "sgd-2012",  # the same rule as 4.2
            "train.optimizer.decay_all": False,
            "train.optimizer.layer_decay": {},
            "train.optimizer.lars_trust": None,
            "train.augment.crop_px": 224,
        },
        "5.1": {
            "prepare.stored_px": 256,
            "prepare.shape": "square",
            "train.augment.normalise": "mean-image",
            "train.augment.statistics": "dataset",
            "train.augment.scale": 1,
        },
        "5.2": {
            "train.augment.flip": True,
            "train.augment.crop_sharing": 1,  # drawn for each image in 2014
            "train.augment.resized_crop": None,
            "evaluate.ten_crop": True,
        },
    },
    "alexnet-torchvision": {
        "2.4": {
            "model.name": "alexnet-torchvision",
            "model.dropout": 0.5,
            "train.augment.normalise": "channels",
            "train.augment.scale": 1,
        },
        "4.7": {
            "prepare.stored_px": 256,
            "prepare.shape": "keep-aspect",  # parts of the whole image; tests see its centre
            "train.augment.crop_px": 224,
            "train.augment.resized_crop.min_area": 0.08,
            "train.augment.resized_crop.max_aspect": 4 / 3,
            "train.augment.flip": True,
            "train.augment.color_noise": 0,
            "train.optimizer.lars_trust": None,
            "train.optimizer.layer_decay": {},
        },
    },
    "cifar-18pct": {
        "2.6": {
            "model.name": "cifar-18pct",
            "train.augment.crop_px": 32,
            "train.augment.flip": False,
            "evaluate.nine_crop": False,
            "evaluate.ten_crop": False,
        },
        "4.9": CIFAR_ALL,
    },
    "cifar-13pct": {
        "2.6": {"model.name": "cifar-13pct"},
        "4.9": CIFAR_ALL,
        "5.2": CIFAR_CROPPED,  # as 11pct
    },
    "cifar-11pct": {
        "2.6": {"model.name": "cifar-11pct"},
        "4.9": CIFAR_ALL,
        "5.2": CIFAR_CROPPED,
    },
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param(name, settings, id=f"{name}-section-{section}")
        for name, sections in SETTINGS.items()
        for section, settings in {**sections, "4.2": NOT_YET}.items()
    ],
)
def test_a_recipe_has_the_settings_that_its_source_names(
    name: str, settings: dict[str, object]
) -> None:
    recipe = load_recipe(name)
    assert {key: attrgetter(key)(recipe) for key in settings} == settings
