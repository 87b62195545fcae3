"""Stage 10: a judged network becomes a version of the registered model."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

from alexnet.release.registration import Registration, parse_registration
from infra.canonical import digest_of, sha256_hex
from infra.commit import commit_receipt, read_receipt
from infra.errors import TrackingError
from infra.lease import hold_lease
from infra.store import ObjectStore
from pipelines.context import Context
from pipelines.steps.evaluate import EvaluateStep
from pipelines.steps.gate import GateStep
from pipelines.steps.prepare import PrepareStep
from pipelines.steps.train import TrainStep
from pipelines.workflow import Step

VERSION: Final = 1
RECEIPT: Final = "registration.json"
TRIES: Final = 5
ASKED_S: Final = 5.0
"""How long MLflow is waited for before a version is taken to be there still."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration and where its receipt lies."""

    store: ObjectStore
    registration: Registration


class RegisterStep(Step[Registered]):
    """Verdict → model version and aliases."""

    name: ClassVar[str] = "register"

    def __init__(
        self,
        context: Context,
        prepare: PrepareStep,
        train: TrainStep,
        evaluate: EvaluateStep,
        gate: GateStep,
    ) -> None:
        super().__init__(context)
        self._prepare = prepare
        self._train = train
        self._evaluate = evaluate
        self._gate = gate

    def folder(self) -> ObjectStore:
        """Return the registration's folder: of this version under this verdict."""
        key = digest_of([self._version_key, self._gate.product.digest])
        return self.context.workspace.child(f"registrations/{key[:16]}")

    def find(self) -> Registered | None:
        """Find the receipt; what the aliases point to now is the registry's affair."""
        body = read_receipt(self.folder(), RECEIPT)
        return None if body is None else self._registered(body)

    def make(self) -> Registered:
        """Register; if the champion moved meanwhile, have it judged again first."""
        from alexnet.release.errors import ChampionMoved

        for _ in range(TRIES - 1):
            try:
                return self._register()
            except ChampionMoved as moved:
                self.context.say(f"register: {moved.problem}; judging again")
                self._gate.judge_again()
        return self._register()

    def catch_up(self) -> None:
        """Register again what was deleted in MLflow since; while that is away nobody can tell.

        Not where another version is champion: who took this one back would find it in its place.
        """
        if not self._is_deleted():
            return
        try:
            champion = self.context.registry.champion()
        except TrackingError:
            return
        if champion is not None:
            self.context.say(
                f"register: {self.product.registration.model_uri} was deleted in MLflow, where"
                f" version {champion.version} is champion: left so. To register it again, delete"
                f" {self.folder().uri}"
            )
            return
        # Of two processes only one makes the version.
        with hold_lease(self.folder(), wait_report=self.say_waiting):
            version = self.product.registration.model_uri
            if self.look() and not self._is_deleted():
                return
            self.context.say(f"register: {version} was deleted in MLflow; registering again")
            self.folder().delete(RECEIPT)
            self._product = self.make()

    def fields(self, product: Registered) -> dict[str, Any]:
        """Return what `--json` shows."""
        return registration_fields(product.registration)

    @cached_property
    def _version_key(self) -> str:
        """Hex SHA-256 of what makes a version: not the verdict, which may be given again."""
        return digest_of(
            {
                "step": "register",
                "version": VERSION,
                "evaluation": sha256_hex(self._evaluate.product.evaluation.to_bytes()),
                "model_name": self.context.recipe.registration.model_name,
                "registry": self.context.tracking.registry_id,
            }
        )

    def _is_deleted(self) -> bool:
        try:
            self.context.tracker.check_reachable(ASKED_S)
            return self.context.registry.find(self._version_key) is None
        except TrackingError:
            return False

    def _aliases_folder(self) -> ObjectStore:
        """Return the folder whose lease serialises who moves this model's aliases."""
        registry_id = self.context.tracking.registry_id
        name = digest_of([registry_id, self.context.recipe.registration.model_name])
        return self.context.workspace.child(f"registry/{name[:16]}")

    def _register(self) -> Registered:
        from alexnet.release.register import Candidate, register
        from alexnet.trained import trained_network

        dataset, training = self._prepare.product, self._train.product
        verdict = self._gate.product.verdict
        registration = register(
            self.context.registry,
            Candidate(
                trained=trained_network(training.checkpoint, dataset.store, dataset.manifest),
                dataset=dataset.store,
                manifest=dataset.manifest,
                evaluation=self._evaluate.product.store,
                run_key=training.receipt.run_key,
                run_id=self._train.run.ensure_id(),
            ),
            verdict,
            key=self._version_key,
            expected_champion=verdict.champion,
            turn=hold_lease(self._aliases_folder(), wait_report=self.say_waiting),
        )
        return self._registered(commit_receipt(self.folder(), RECEIPT, registration.to_bytes()))

    def _registered(self, body: bytes) -> Registered:
        store = self.folder()
        return Registered(store, parse_registration(body, f"{store.uri}/{RECEIPT}"))


def registration_fields(registration: Registration) -> dict[str, Any]:
    """Describe a registration as `register --json` does."""
    return {
        "model_uri": registration.model_uri,
        "version": registration.version,
        "aliases": list(registration.aliases),
    }
