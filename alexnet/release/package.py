"""What a registered model consists of: weights, statistics and one JSON file, no pickles."""

from pathlib import Path
from typing import Final, Literal

from alexnet.settings import AugmentSettings, NetworkSettings
from alexnet.trained import Located, TrainedNetwork
from infra.canonical import sha256_hex
from infra.commit import Frozen, StoredObject, parse_receipt, write_object
from infra.errors import DataError
from infra.store import FolderStore, ObjectStore
from preprocessing.dataset.labels import Classes

MODEL: Final = "model.json"
WEIGHTS: Final = "weights.safetensors"
STATISTICS: Final = "statistics.safetensors"
CLASSES: Final = "classes.json"
FILES: Final = (MODEL, WEIGHTS, STATISTICS, CLASSES)


class PackagedModel(Frozen):
    """How the tensors beside it become a network, and its outputs names."""

    schema_version: Literal[1] = 1
    network: NetworkSettings
    augment: AugmentSettings
    step: int
    stored_px: int
    """Side to which images are scaled before views are cut, as the dataset's were."""
    num_classes: int
    weights: StoredObject
    statistics: StoredObject
    classes: StoredObject


def write_package(trained: TrainedNetwork, folder: Path) -> None:
    """Copy a network and all it needs into an empty directory."""
    store = FolderStore(folder)
    classes: Classes = trained.load_classes()
    packaged = PackagedModel(
        network=trained.network,
        augment=trained.augment,
        step=trained.step,
        stored_px=trained.stored_px,
        num_classes=len(classes),
        weights=write_object(store, WEIGHTS, trained.weights.read()),
        statistics=write_object(store, STATISTICS, trained.statistics.read()),
        classes=write_object(store, CLASSES, trained.classes.read()),
    )
    store.write(MODEL, packaged.to_bytes())


def copy_package(source: ObjectStore, places: ObjectStore) -> ObjectStore:
    """Copy what `write_package` wrote to a folder named by its content; return that folder.

    Raises:
        DataError: there is no such thing.
        ObjectCorrupt: a file is missing or damaged.
    """
    trained = open_package(source)
    model = source.read(MODEL)
    target = places.child(sha256_hex(model)[:16])
    for located in (trained.weights, trained.statistics, trained.classes):
        target.write(located.item.path, located.read())
    target.write(MODEL, model)
    return target


def open_package(store: ObjectStore) -> TrainedNetwork:
    """Describe the network that `write_package` put there; it can be evaluated like any other.

    Raises:
        DataError: there is none that this version reads.
    """
    remedy = "register the model again with this version"
    try:
        body = store.read(MODEL)
    except FileNotFoundError as error:
        raise DataError(f"{store.uri} holds no model of ours", remedy=remedy) from error
    where = f"{store.uri}/{MODEL}"
    packaged = parse_receipt(PackagedModel, body, where, raised=DataError, remedy=remedy)
    return TrainedNetwork(
        network=packaged.network,
        augment=packaged.augment,
        step=packaged.step,
        stored_px=packaged.stored_px,
        weights=Located(store, packaged.weights),
        statistics=Located(store, packaged.statistics),
        classes=Located(store, packaged.classes),
    )
