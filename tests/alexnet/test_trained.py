from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alexnet.inference.layer_outputs import choose_layer
from alexnet.release.package import open_package, write_package
from alexnet.settings import AugmentSettings, NetworkSettings
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


def test_a_registered_model_has_the_digest_of_its_checkpoint(
    tiny_training: Any, tmp_path: Path
) -> None:
    trained = tiny_training.trained
    write_package(trained, tmp_path)
    assert open_package(FolderStore(tmp_path)).digest == trained.digest


def test_the_digest_is_of_all_that_answers_depend_on(tiny_training: Any, tmp_path: Path) -> None:
    trained = tiny_training.trained
    item = write_object(FolderStore(tmp_path), "other", b"other")
    others = (
        {"weights": Located(FolderStore(tmp_path), item)},
        {"statistics": Located(FolderStore(tmp_path), item)},
        {"network": NetworkSettings(name="alexnet-bn")},
        {"augment": AugmentSettings(crop_px=trained.augment.crop_px - 1)},
        {"stored_px": 64},
    )
    digests = {replace(trained, **other).digest for other in others} | {trained.digest}
    assert len(digests) == 1 + len(others)
    # Not on how far it was trained, nor where it lies.
    assert replace(trained, step=9).digest == trained.digest
