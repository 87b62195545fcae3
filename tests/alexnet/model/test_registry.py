import pickle
import subprocess
import sys
from typing import Any

import pytest

import alexnet
import alexnet.model
from alexnet.model import (
    AlexNet2012,
    AlexNetTorchvision,
    ModelError,
    create_model,
    list_models,
)


def test_every_listed_model_can_be_created() -> None:
    assert list_models() == (
        "alexnet-2012",
        "alexnet-2012-conv5-norm",
        "alexnet-2012-no-block2-norm",
        "alexnet-2012-no-communication",
        "alexnet-2012-no-norm",
        "alexnet-2012-norm-before-relu",
        "alexnet-2012-one-column",
        "alexnet-2012-plain-pooling",
        "alexnet-2012-six-convs",
        "alexnet-bn",
        "alexnet-bn-last",
        "alexnet-one-tower",
        "alexnet-paper",
        "alexnet-torchvision",
        "cifar-11pct",
        "cifar-13pct",
        "cifar-18pct",
        "cifar-80sec",
    )
    for name in list_models():
        dropout = 0.0 if name.startswith("cifar") else 0.2
        network = create_model(name, 12, image_size=64, width=0.1, dropout=dropout)
        assert network.num_classes == 12
        assert network.image_size == 64


def test_a_name_leads_to_its_network() -> None:
    assert isinstance(create_model("alexnet-2012", image_size=64, width=0.1), AlexNet2012)
    assert isinstance(create_model("alexnet-torchvision", width=0.1), AlexNetTorchvision)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"no network 'alexnet-2021'; did you mean 'alexnet-2012'"):
        create_model("alexnet-2021")


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"alexnet-2012 has no option 'widht'.* mean 'width'"):
        create_model("alexnet-2012", widht=0.5)
    with pytest.raises(ModelError, match="alexnet-torchvision has no option 'init'"):
        create_model("alexnet-torchvision", init="fan-in")


@pytest.mark.parametrize(
    "name", ["alexnet-2012", "alexnet-torchvision", "alexnet-one-tower", "cifar-18pct"]
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0"),
        ({"image_size": 0}, "the smallest size that works is"),
        ({"width": 0.0}, "width is 0.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create_model(name, **options)


def test_an_error_keeps_its_two_halves_through_pickle() -> None:
    error = pickle.loads(pickle.dumps(ModelError("it is odd", "make it even")))
    assert isinstance(error, ModelError)
    assert isinstance(error, ValueError)
    assert (error.problem, error.remedy) == ("it is odd", "make it even")
    assert str(error) == "it is odd; make it even"


def test_the_packages_show_the_names_they_promise() -> None:
    assert alexnet.create_model is create_model
    assert alexnet.list_models is list_models
    assert dir(alexnet) == ["create_model", "list_models"]
    assert all(hasattr(alexnet.model, name) for name in alexnet.model.__all__)
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        getattr(alexnet, "create_modle")  # noqa: B009  # mypy knows that it is not there


def test_the_counter_generator_needs_no_torch() -> None:
    check = "import alexnet.counter_rng, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
