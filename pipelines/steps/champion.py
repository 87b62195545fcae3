"""The gate's rival: the champion, evaluated on our images; who cannot be compared is refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alexnet.evaluate.evaluation import read_evaluation, validation_digest
from infra.claims import Claim
from infra.errors import DataError, RecipeError, StoreError
from infra.lease import hold_lease
from infra.store import FolderStore, ObjectStore, open_store
from infra.temporary import temporary_folder
from pipelines.context import Context
from pipelines.steps.evaluate import evaluation_folder, evaluation_key
from pipelines.steps.prepare import Dataset
from pipelines.steps.seen import seen_in_training

if TYPE_CHECKING:
    from alexnet.release.gate import Contender
    from alexnet.release.registry import ModelRegistry, RegisteredVersion
    from alexnet.trained import TrainedNetwork

ELSEWHERE_S: Final = 15.0
"""How long another workspace's store, or MLflow before it is needed, may stay away."""
_OWN_NAME: Final = "give this one a name of its own: --set register.model_name=NAME"


class Rival:
    """A champion as the rival of a network that is judged by a dataset's validation images."""

    def __init__(
        self,
        context: Context,
        registry: "ModelRegistry",
        champion: "RegisteredVersion",
        dataset: Dataset,
    ) -> None:
        self._context = context
        self._registry = registry
        self._champion = champion
        self._dataset = dataset

    def check(self) -> None:
        """Refuse a champion that could never be compared; computes nothing.

        Raises:
            RecipeError: it has other classes, or MLflow has no model of ours there.
            TrackingError: MLflow is away, or refuses.
        """
        if (classes := self._champion.classes_sha256) is not None:
            self._refuse_other_classes(classes)
        if not self._has_model() and self._kept() is None:
            raise self._no_model()

    def contender(self) -> "Contender":
        """Return what it made of the images, evaluating it first if nobody has.

        And which of them it was trained on, as far as its dataset can be found.

        Raises:
            RecipeError: as `check`.
            DataError: its files are damaged.
            TrackingError: MLflow is away, or refuses.
        """
        from alexnet.release.contender import read_contender

        version = self._champion.version
        contender = self._kept() or read_contender(self._evaluated(), version)
        fingerprint = self._champion.tags.get("alexnet.dataset_fingerprint")
        seen = seen_in_training(self._dataset, fingerprint, self._places(), version)
        return replace(contender, seen_ids=seen.sample_ids, note=seen.note)

    def _places(self) -> Iterator[ObjectStore]:
        """Give the workspaces where its dataset may lie: ours, and the one it was made in."""
        yield self._context.workspace
        evaluation = self._champion.tags.get("alexnet.evaluation_uri", "")
        if evaluation.count("/") >= 2:
            yield open_store(evaluation.rsplit("/", 2)[0] or "/").with_deadline(ELSEWHERE_S)

    @property
    def _name(self) -> str:
        return f"models:/{self._registry.name}@champion"

    def _refuse_other_classes(self, classes_sha256: str) -> None:
        ours = self._dataset.manifest.classes.sha256
        refuse_other_classes(self._registry.name, classes_sha256, ours)

    def _has_model(self) -> bool:
        from alexnet.release.package import MODEL

        return self._registry.has_file(self._champion.version, MODEL)

    def _no_model(self) -> RecipeError:
        return RecipeError(
            f"{self._name}, version {self._champion.version}, is no network to compare with:"
            " another program registered it, or its files were deleted",
            remedy=f"{_OWN_NAME}, or point the alias champion to another version",
        )

    def _kept(self) -> "Contender | None":
        """Read the evaluation that was made when it was registered, if it is of these images."""
        uri = self._champion.tags.get("alexnet.evaluation_uri")
        if uri is None:
            return None
        # By its name in this workspace: the workspace may have been copied since.
        here = f"evaluations/{Path(uri).name}"
        return self._read(lambda: self._context.workspace.child(here)) or self._read(
            lambda: open_store(uri).with_deadline(ELSEWHERE_S)
        )

    def _read(self, place: Callable[[], ObjectStore]) -> "Contender | None":
        from alexnet.release.contender import read_contender

        ours = validation_digest(self._dataset.manifest)
        try:
            store = place()
            found = read_evaluation(store)
            if found is None or found.validation_digest != ours:
                return None
            return read_contender(store, self._champion.version)
        except (RecipeError, DataError, StoreError) as error:
            # Another workspace's: gone, not ours to read, copied in part, or another version's.
            self._context.say(f"gate: the champion's evaluation cannot be used: {error.problem}")
            return None

    def _evaluated(self) -> ObjectStore:
        from alexnet.release.package import open_package

        dataset, settings = self._dataset, self._context.recipe.evaluate
        trained = open_package(self._package())
        self._refuse_other_classes(trained.classes.item.sha256)
        key = evaluation_key(
            model_sha256=trained.weights.item.sha256,
            dataset=dataset,
            augment=trained.augment,
            settings=settings,
            stored_px=trained.stored_px,
        )
        place = evaluation_folder(self._context.workspace, key)
        with hold_lease(place, wait_report=self._say_waiting):
            if read_evaluation(place) is None:
                self._evaluate(trained, place, key)
        return place

    def _evaluate(self, trained: "TrainedNetwork", place: ObjectStore, key: str) -> None:
        from alexnet.evaluate.execute import evaluate

        version = self._champion.version
        self._context.say(f"gate: evaluating champion {version} on these images")
        self._context.start_cluster()
        with self._context.progress("gate") as progress:
            evaluate(
                trained=trained,
                dataset=self._dataset.store,
                manifest=self._dataset.manifest,
                settings=self._context.recipe.evaluate,
                place=place,
                key=key,
                progress=progress,
            )

    def _say_waiting(self, claim: Claim) -> None:
        self._context.say(f"gate: {claim.process} evaluates the champion already; waiting")

    def _package(self) -> ObjectStore:
        """Copy its files into the workspace, where the workers of all nodes see them."""
        from alexnet.release.package import copy_package

        if not self._has_model():
            raise self._no_model()
        with temporary_folder("alexnet-champion-") as folder:
            files = self._registry.download(self._champion.version, folder)
            return copy_package(FolderStore(files), self._context.workspace.child("champions"))


def refuse_other_classes(model_name: str, theirs_sha256: str, ours_sha256: str) -> None:
    """Refuse to compare with a champion of other classes than our images have.

    Raises:
        RecipeError: the classes differ.
    """
    if theirs_sha256 != ours_sha256:
        raise RecipeError(
            f"models:/{model_name}@champion tells other classes apart than this recipe's images"
            " have: the two networks cannot be compared",
            remedy=_OWN_NAME,
        )
