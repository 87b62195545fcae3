from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alexnet.inference.layer_outputs import choose_layer
from alexnet.settings import NetworkSettings
from alexnet.trained import Located
from infra.commit import write_object
from infra.errors import DataError
from infra.store import FolderStore


def test_a_network_that_this_version_lacks_was_made_by_another_one(tiny_training: Any) -> None:
    trained = replace(tiny_training.trained, network=NetworkSettings(name="alexnet-2099"))
    for ask in (trained.load_model, lambda: choose_layer(trained, None)):
        with pytest.raises(DataError, match=r"made by another version of alexnet: .*alexnet-2099"):
            ask()


def test_weights_that_are_no_safetensors_or_another_networks_are_named(
    tiny_training: Any, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path)
    none = write_object(store, "weights.safetensors", b"no weights")
    trained = replace(tiny_training.trained, weights=Located(store, none))
    with pytest.raises(DataError, match=f"{tmp_path}/weights.safetensors holds no weights of"):
        trained.load_model()
    another = replace(tiny_training.trained, network=NetworkSettings(name="alexnet-bn"))
    with pytest.raises(DataError, match="holds no weights of alexnet-bn for 7 classes"):
        another.load_model()
