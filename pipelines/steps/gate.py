"""Stage 9: an evaluation is judged against thresholds and the champion."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

from alexnet.release.gate import Contender, Verdict, judge, parse_verdict
from infra.canonical import digest_of, sha256_hex
from infra.commit import commit_receipt
from infra.errors import TrackingError
from infra.store import ObjectStore
from pipelines.context import Context
from pipelines.steps.champion import ELSEWHERE_S, Rival, refuse_other_classes
from pipelines.steps.evaluate import EvaluateStep
from pipelines.steps.prepare import PrepareStep
from pipelines.workflow import Step

VERSION: Final = 1
"""Raised by hand when the same numbers would be judged differently."""


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
        """Refuse a champion that cannot be compared before hours are spent on its rival.

        Before the dataset is made by its classes alone. Where MLflow is away, or the champion is of
        a version that did not note its classes, the gate itself tells.
        """
        if self._rival_checked:
            return
        self._rival_checked = self._prepare.is_done
        try:
            # MLflow's own retries can take minutes, and a noted training goes on without it.
            self.context.tracker.check_reachable(ELSEWHERE_S)
            registry = self.context.registry
            champion = registry.champion()
            if champion is None:
                return
            if (theirs := champion.classes_sha256) is not None:
                refuse_other_classes(registry.name, theirs, self._prepare.classes_sha256)
            if self._prepare.is_done:
                Rival(self.context, registry, champion, self._prepare.product).check()
        except TrackingError:
            return

    def folder(self) -> ObjectStore:
        """Return the gate's folder."""
        return self.context.workspace.child(f"gates/{self._key[:16]}")

    def find(self) -> Judged | None:
        """Find the newest verdict: a rerun repeats it, whoever is champion now."""
        store = self.folder()
        numbered = [info.key for info in store.list("verdict-")]
        if not numbered:
            return None
        newest = numbered[-1]
        return Judged(store, parse_verdict(store.read(newest), f"{store.uri}/{newest}"))

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
        registry = self.context.registry
        champion = registry.champion()
        if champion is None:
            return None, None
        # It need not be better than itself.
        uri = champion.tags.get("alexnet.evaluation_uri")
        if uri is not None and self._evaluate.is_of_this_network(Path(uri).name):
            return None, champion.version
        rival = Rival(self.context, registry, champion, self._prepare.product).contender()
        if self._evaluate.is_of_this_network(rival.evaluation.key):
            return None, champion.version
        return rival, None
