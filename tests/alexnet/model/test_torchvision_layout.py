import pytest
import torch

from alexnet.model import ModelError, create_model
from alexnet.model.torchvision_layout import from_torchvision, to_torchvision


def test_names_and_shapes_agree_at_full_size() -> None:
    with torch.device("meta"):
        one_tower = create_model("alexnet-one-tower").state_dict()
        torchvisions = create_model("alexnet-torchvision").state_dict()
    renamed = to_torchvision(one_tower)
    assert list(renamed) == list(torchvisions)
    assert all(renamed[name].shape == torchvisions[name].shape for name in renamed)


def test_there_and_back_changes_nothing_and_either_network_loads_it() -> None:
    theirs = create_model("alexnet-torchvision", 10, image_size=256, width=0.1)
    ours = create_model("alexnet-one-tower", 10, image_size=224, width=0.1)
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    weight = theirs.get_parameter("features.8.weight")
    assert torch.equal(ours.get_parameter("conv4.weight"), weight)
    back = to_torchvision(ours.state_dict())
    theirs.load_state_dict(back)
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in theirs.state_dict().items())


def test_missing_and_unknown_tensors_are_named() -> None:
    state = create_model("alexnet-torchvision", 10, width=0.1).state_dict()
    state["features.12.weight"] = state.pop("features.10.weight")
    with pytest.raises(ModelError, match=r"unknown: features\.10\.weight, features\.12\.weight"):
        from_torchvision(state)
