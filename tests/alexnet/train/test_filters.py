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

FIRST = {"alexnet-2012": (96, 2), "alexnet-bn": (96, 2), "alexnet-torchvision": (64, 1)}


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("width", [0.05, 0.25, 1.0])
def test_the_layer_that_sees_the_image_is_found(name: str, width: float) -> None:
    with torch.device("meta"):
        weights = create_model(name, width=width).state_dict()
    filters, (maps, towers) = first_filters(weights), FIRST[name]
    assert filters.shape[1:] == (3, 11, 11)
    assert width < 1 or len(filters) == maps
    assert count_towers(weights) == towers


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
