"""Stage 9: an evaluation is judged against thresholds and the champion."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Final

from alexnet.evaluate.evaluation import read_evaluation, validation_digest
from alexnet.release.gate import Contender, Verdict, judge, parse_verdict
from infra.canonical import digest_of, sha256_hex
from infra.commit import commit_receipt
from infra.errors import RecipeError, StoreError, TrackingError
from infra.store import FolderStore, ObjectStore, open_store
from infra.tracking.mlflow_tracker import MlflowTracker
from pipelines.context import Context
from pipelines.steps.evaluate import EvaluateStep, evaluation_folder, evaluation_key
from pipelines.steps.prepare import PrepareStep
from pipelines.workflow import Step

if TYPE_CHECKING:
    from alexnet.release.registry import ModelRegistry

VERSION: Final = 1
"""Raised by hand when the same numbers would be judged differently."""


ELSEWHERE_S: Final = 15.0
"""How long another workspace's store, or MLflow before it is needed, may stay away."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict and where it lies."""

    store: ObjectStore
    verdict: Verdict

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the verdict."""
        return sha256_hex(self.verdict.to_bytes())


class GateStep(Step[Judged]):
    """Counts → verdict.

    Verdicts are numbered; the newest counts. There is more than one only when the champion moved
    between a verdict and the registration, which then had it judged again.
    """

    name: ClassVar[str] = "gate"

    def __init__(self, context: Context, prepare: PrepareStep, evaluate: EvaluateStep) -> None:
        super().__init__(context)
        self._prepare = prepare
        self._evaluate = evaluate
        self._rival_checked = False

    def check_products(self) -> None:
        """Refuse a champion of other classes before hours are spent on its rival.

        Where MLflow is away, or the champion is of a version that did not note its classes, the
        gate itself tells.
        """
        if self._rival_checked:
            return
        self._rival_checked = True
        try:
            # MLflow's own retries can take minutes, and a noted training goes on without it.
            MlflowTracker(self.context.tracking).check_reachable(ELSEWHERE_S)
            champion = self._registry().champion()
        except TrackingError:
            return
        classes = champion.classes_sha256 if champion else None
        if classes is not None:
            refuse_other_classes(self._champions_name, classes, self._prepare.classes_sha256)

    def folder(self) -> ObjectStore:
        """Return the gate's folder."""
        return self.context.workspace.child(f"gates/{self._key[:16]}")

    def find(self) -> Judged | None:
        """Find the newest verdict: a rerun repeats it, whoever is champion now."""
        store = self.folder()
        numbered = [info.key for info in store.list("verdict-")]
        return Judged(store, parse_verdict(store.read(numbered[-1]))) if numbered else None

    def make(self) -> Judged:
        """Judge against the present champion."""
        self._judge(number=1)
        return self._newest()

    def judge_again(self) -> Judged:
        """Judge against the present champion, for the one judged against is no longer it."""
        self._judge(number=1 + len(list(self.folder().list("verdict-"))))
        self._product = self._newest()
        return self._product

    def fields(self, product: Judged) -> dict[str, Any]:
        """Return what `--json` shows."""
        return product.verdict.model_dump(mode="json", exclude={"schema_version"})

    @cached_property
    def _key(self) -> str:
        recipe = self.context.recipe
        return digest_of(
            {
                "step": "gate",
                "version": VERSION,
                "evaluation": sha256_hex(self._evaluate.product.evaluation.to_bytes()),
                "settings": recipe.gate.model_dump(mode="json"),
                "model_name": recipe.registration.model_name,
                "registry": self.context.tracking.registry_id,
            }
        )

    def _newest(self) -> Judged:
        found = self.find()
        if found is None:
            raise RuntimeError("a verdict was committed and is not there")
        return found

    def _judge(self, number: int) -> None:
        from alexnet.release.contender import read_contender
        from preprocessing.dataset.labels import read_classes

        dataset, evaluated = self._prepare.product, self._evaluate.product
        rival, itself = self._champion()
        verdict = judge(
            read_contender(evaluated.store, "candidate"),
            rival,
            self.context.recipe.gate,
            read_classes(dataset.store, dataset.manifest.classes),
            itself=itself,
        )
        commit_receipt(self.folder(), f"verdict-{number:04}.json", verdict.to_bytes())

    def _champion(self) -> tuple[Contender | None, str | None]:
        """Read the champion's evaluation on our images, making it first if there is none.

        If it is this very network, there is no rival, and its version is returned beside.
        """
        from alexnet.release.contender import read_contender

        registry = self._registry()
        champion = registry.champion()
        if champion is None:
            return None, None
        if self._is_ours(champion.tags.get("alexnet.evaluation_uri")):
            return None, champion.version
        place = self._kept_evaluation(champion.tags.get("alexnet.evaluation_uri"))
        if place is None:
            place = self._evaluate_champion(registry, champion.version)
        return read_contender(place, champion.version), None

    def _registry(self) -> "ModelRegistry":
        from alexnet.release.registry import ModelRegistry

        recipe = self.context.recipe
        return ModelRegistry(self.context.tracking.uri, recipe.registration.model_name)

    @property
    def _champions_name(self) -> str:
        return f"models:/{self.context.recipe.registration.model_name}@champion"

    def _is_ours(self, uri: str | None) -> bool:
        """Tell whether the champion is this very network: it need not be better than itself."""
        return uri is not None and Path(uri).name == Path(self._evaluate.product.store.uri).name

    def _kept_evaluation(self, uri: str | None) -> ObjectStore | None:
        if uri is None:
            return None
        # By its name in this workspace: the workspace may have been copied since.
        here = self.context.workspace.child(f"evaluations/{Path(uri).name}")
        if self._is_on_our_images(here):
            return here
        elsewhere = open_store(uri).with_deadline(ELSEWHERE_S)
        return elsewhere if self._is_on_our_images(elsewhere) else None

    def _is_on_our_images(self, place: ObjectStore) -> bool:
        try:
            found = read_evaluation(place)
        except StoreError as error:
            # Another workspace's bucket or disk: gone, or not ours to read.
            self.context.say(f"gate: the champion's evaluation cannot be read: {error.problem}")
            return False
        ours = validation_digest(self._prepare.product.manifest)
        return found is not None and found.validation_digest == ours

    def _evaluate_champion(self, registry: "ModelRegistry", version: str) -> ObjectStore:
        from alexnet.evaluate.execute import evaluate
        from alexnet.release.package import copy_package, open_package

        _ = self.context.cluster
        dataset, settings = self._prepare.product, self.context.recipe.evaluate
        self.context.say(f"gate: evaluating champion {version} on these images")
        with TemporaryDirectory() as directory:
            # Into the workspace, where the workers of all nodes see it.
            package = copy_package(
                FolderStore(registry.download(version, Path(directory))),
                self.context.workspace.child("champions"),
            )
        trained = open_package(package)
        refuse_other_classes(
            self._champions_name, trained.classes.item.sha256, self._prepare.classes_sha256
        )
        key = evaluation_key(
            model_sha256=trained.weights.item.sha256,
            dataset=dataset,
            augment=trained.augment,
            settings=settings,
        )
        place = evaluation_folder(self.context.workspace, key)
        if read_evaluation(place) is None:
            with self.context.progress(self.name) as progress:
                evaluate(
                    trained=trained,
                    dataset=dataset.store,
                    manifest=dataset.manifest,
                    settings=settings,
                    place=place,
                    key=key,
                    progress=progress,
                )
        return place


def refuse_other_classes(champion: str, theirs_sha256: str, ours_sha256: str) -> None:
    """Refuse to compare with a champion of other classes than our images have.

    Raises:
        RecipeError: the classes differ.
    """
    if theirs_sha256 != ours_sha256:
        raise RecipeError(
            f"{champion} tells other classes apart than this recipe's images have: the two networks"
            " cannot be compared",
            remedy="give this one a name of its own: --set register.model_name=NAME",
        )
