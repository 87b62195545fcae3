"""A training, described completely: what every worker is told, small and plain."""

from alexnet.data.order import Order, OrderKind
from alexnet.data.reader import ReadSpec, order_of
from alexnet.settings import NetworkSettings
from alexnet.train.settings import CheckpointSettings, TrainSettings
from infra.canonical import digest_of
from infra.commit import Frozen
from preprocessing.dataset.manifest import Manifest

VERSION = 3
"""Raised by hand when the mathematics of a training changes, so that no old result is kept."""
RUN = "run.json"
"""First object of a run's folder: the recipe that it was begun with, resolved."""


class TrainJob(Frozen):
    """One training and where its state lives."""

    run_key: str
    run_uri: str
    dataset_uri: str
    dataset_fingerprint: str
    num_classes: int
    network: NetworkSettings
    train: TrainSettings
    checkpoint: CheckpointSettings
    microbatch: int | None = None
    compile: bool = False

    def order(self, manifest: Manifest) -> Order:
        """Return the order of this training."""
        return order_of(manifest, self.train.seed, self.train.global_batch, self._order_kind)

    def total_steps(self, order: Order) -> int:
        """Return how many updates the whole training makes, by its order."""
        return self.train.epochs * order.steps_per_epoch

    @property
    def read_spec(self) -> ReadSpec:
        """What all of its ranks read."""
        return ReadSpec(
            dataset_uri=self.dataset_uri,
            seed=self.train.seed,
            global_batch=self.train.global_batch,
            order_kind=self._order_kind,
            crop_px=self.train.augment.crop_px,
            crop_sharing=self.train.augment.crop_sharing,
            resized_crop=self.train.augment.resized_crop,
        )

    @property
    def _order_kind(self) -> OrderKind:
        """Blends want neighbours of different row groups, which cost reading; others do not."""
        blends = self.train.mixing is not None and self.train.order == "reshuffled"
        return "paired" if blends else self.train.order


def run_key(
    fingerprint: str, network: NetworkSettings, train: TrainSettings, *, tag: str | None
) -> str:
    """Hex SHA-256 of what changes the mathematics: the same command finds the same run.

    Not in it: the number of workers, checkpointing, logging, tracking. `tag` makes another run
    of the same mathematics, on purpose.
    """
    mathematics = train.model_dump(mode="json", exclude={"sample_log", "log_every_steps"})
    return digest_of(
        {
            "step": "train",
            "version": VERSION,
            "dataset": fingerprint,
            "network": network.model_dump(mode="json"),
            "train": mathematics,
            "tag": tag,
        }
    )
