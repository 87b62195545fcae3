from pathlib import Path

import pytest
import torch

from alexnet.model import create_model, list_models
from alexnet.train.filters import (
    count_towers,
    first_filters,
    list_filters,
    read_filters,
    write_filters,
)
from infra.store import FolderStore

TWO_TOWERS = (96, 2, 11)
# Sections 2.1 to 2.7 of the specification: maps at full width, towers, side of the filters.
FIRST = {
    "alexnet-2012": TWO_TOWERS,
    "alexnet-2012-conv5-norm": TWO_TOWERS,
    "alexnet-2012-no-block2-norm": TWO_TOWERS,
    "alexnet-2012-no-communication": TWO_TOWERS,
    "alexnet-2012-no-norm": TWO_TOWERS,
    "alexnet-2012-norm-before-relu": TWO_TOWERS,
    "alexnet-2012-one-column": (48, 1, 11),
    "alexnet-2012-plain-pooling": TWO_TOWERS,
    "alexnet-2012-six-convs": TWO_TOWERS,
    "alexnet-bn": TWO_TOWERS,
    "alexnet-bn-last": TWO_TOWERS,
    "alexnet-one-tower": (64, 1, 11),
    "alexnet-paper": TWO_TOWERS,
    "alexnet-torchvision": (64, 1, 11),
    "cifar-11pct": (64, 1, 5),
    "cifar-13pct": (64, 1, 5),
    "cifar-18pct": (32, 1, 5),
    "cifar-80sec": (32, 1, 5),
}


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("width", [0.05, 0.25, 1.0, 2.0])
def test_the_layer_that_sees_the_image_is_found(name: str, width: float) -> None:
    with torch.device("meta"):
        network = create_model(name, width=width)
    weights, (maps, towers, side) = network.state_dict(), FIRST[name]
    filters = first_filters(weights)
    assert filters.shape[1:] == (3, side, side)
    if width >= 1:
        assert len(filters) == width * maps
    assert count_towers(weights) == towers


def test_the_first_layer_of_small_images_has_filters_of_its_own_size() -> None:
    with torch.device("meta"):
        network = create_model("alexnet-bn", image_size=112, width=0.5, variant="small-images")
    assert first_filters(network.state_dict()).shape == (48, 3, 7, 7)
    assert count_towers(network.state_dict()) == 2


def test_filters_are_kept_by_step_and_read_again(tmp_path: Path) -> None:
    run = FolderStore(tmp_path)
    assert list_filters(run) == []
    made = {step: torch.randn(8, 3, 5, 5) for step in (0, 500, 123_456_789)}
    for step, filters in made.items():
        write_filters(run, step, {"fc.bias": torch.zeros(3), "conv1.weight": filters})
    run.write("filters/notes.txt", b"mine")
    assert list_filters(run) == list(made)
    for step, filters in made.items():
        assert torch.equal(read_filters(run, step), filters)
    assert run.stat("filters/step-00000500.safetensors") is not None


def test_a_step_that_is_trained_again_writes_its_filters_anew(tmp_path: Path) -> None:
    run = FolderStore(tmp_path)
    for value in (1.0, 2.0):
        # As on a GPU that keeps its channels last.
        weights = torch.full((8, 3, 5, 5), value).to(memory_format=torch.channels_last)
        write_filters(run, 7, {"conv1.weight": weights})
    assert list_filters(run) == [7]
    assert float(read_filters(run, 7).max()) == 2.0
