"""A trained network wherever it lies (a checkpoint, a registered model) and what it needs."""

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from alexnet.data.augment import Augment
from alexnet.data.input_statistics import InputStatistics
from alexnet.model import ModelError
from alexnet.settings import AugmentSettings, NetworkSettings
from alexnet.train.checkpoint import MADE_AGAIN, open_checkpoint
from infra.canonical import digest_of
from infra.commit import StoredObject, read_object
from infra.errors import DataError, RecipeError
from infra.store import ObjectStore
from preprocessing.dataset.labels import Classes, read_classes
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.statistics import parse_statistics


@dataclass(frozen=True, slots=True)
class Located:
    """An object and where it lies."""

    store: ObjectStore
    item: StoredObject
    remedy: str | None = None
    """What to do when it is damaged, where deleting its folder would not do."""

    def read(self) -> bytes:
        """Read it whole, digest checked (ObjectCorrupt)."""
        return read_object(self.store, self.item, remedy=self.remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """A network after some steps, with the statistics and classes of what it was trained on.

    Small and picklable: it names the weights and does not hold them.
    """

    network: NetworkSettings
    augment: AugmentSettings
    step: int
    stored_px: int
    """Side of the stored images it was trained on."""
    weights: Located
    statistics: Located
    classes: Located

    @property
    def digest(self) -> str:
        """Hash of all that its answers depend on: weights, network, how pixels become its input."""
        return digest_of(
            {
                "weights": self.weights.item.sha256,
                "statistics": self.statistics.item.sha256,
                "network": self.network.model_dump(mode="json"),
                "augment": self.augment.model_dump(mode="json"),
                "stored_px": self.stored_px,
            }
        )

    def build(self) -> nn.Module:
        """Build the network with fresh weights, in evaluation mode.

        Raises:
            DataError: this version has no such network.
        """
        try:
            return self.network.build(len(self.load_classes()), self.augment.crop_px).eval()
        except ModelError as error:
            raise DataError(
                f"{self.weights.store.uri} was made by another version of alexnet: {error.problem}",
                remedy="use that version, or train or register it again with this one",
            ) from error

    def load_model(self, device: torch.device | str = "cpu") -> nn.Module:
        """Build the network and load its weights, in evaluation mode.

        Raises:
            ObjectCorrupt: the weights' bytes are damaged.
            DataError: they are another network's, or this version has no such network.
        """
        weights = self.weights.read()
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, and thrown away
            model = self.build()
        try:
            model.load_state_dict(load(weights))
        except (RuntimeError, SafetensorError) as error:
            raise DataError(
                f"{self.weights.store.uri}/{self.weights.item.path} holds no weights of"
                f" {self.network.name} for {len(self.load_classes())} classes: {error}",
                remedy="evaluate with the recipe that the checkpoint was trained with",
            ) from error
        return model.to(device)

    def load_augment(self, device: torch.device | str = "cpu") -> Augment:
        """Read the statistics and return what normalises images."""
        statistics = InputStatistics.of(parse_statistics(self.statistics.read()))
        return Augment(self.augment, statistics, device)

    def load_classes(self) -> Classes:
        """Read the classes it tells apart."""
        return read_classes(self.classes.store, self.classes.item)


def trained_network(
    checkpoint: ObjectStore, dataset: ObjectStore, manifest: Manifest
) -> TrainedNetwork:
    """Describe the network in a checkpoint's folder.

    Args:
        checkpoint: the checkpoint's folder.
        dataset: where the dataset it was trained on lies.
        manifest: that dataset's.

    Raises:
        DataError: no complete checkpoint.
        RecipeError: it was trained on another dataset.
    """
    receipt, state = open_checkpoint(checkpoint)
    if state.dataset_fingerprint != manifest.fingerprint:
        raise RecipeError(
            f"{checkpoint.uri} was trained on dataset {state.dataset_fingerprint[:12]}, "
            f"{dataset.uri} is {manifest.fingerprint[:12]}",
            remedy="name the dataset of the training, or another run",
        )
    return TrainedNetwork(
        network=state.network,
        augment=state.augment,
        step=state.step,
        stored_px=manifest.stored_px,
        weights=Located(checkpoint, receipt.evaluated_weights, MADE_AGAIN),
        statistics=Located(dataset, manifest.statistics),
        classes=Located(dataset, manifest.classes),
    )
