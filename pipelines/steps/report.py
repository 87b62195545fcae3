"""Stage 11: a run becomes one page to read, and what MLflow shows of it beside its curves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from infra.canonical import digest_of, sha256_hex
from infra.commit import (
    Frozen,
    StoredObject,
    check_listing,
    commit_receipt,
    parse_receipt,
    read_object,
    read_receipt,
    write_object,
)
from infra.errors import TrackingError
from infra.store import ObjectStore
from infra.tracking.run_note import run_ids_on
from pipelines import timeline
from pipelines.context import Context
from pipelines.links import look_command, run_link
from pipelines.steps.evaluate import EvaluateStep
from pipelines.steps.gate import GateStep
from pipelines.steps.prepare import PrepareStep
from pipelines.steps.register import RegisterStep
from pipelines.steps.train import TrainStep
from pipelines.workflow import Step

if TYPE_CHECKING:
    from alexnet.inference.model_probe import ModelProbe

VERSION: Final = 3
"""Raised by hand when the same run would be told in another way worth telling again."""
RECEIPT: Final = "report.json"
PAGE: Final = "report.html"
_IN_MLFLOW: Final = "report"
"""The folder of a run's artifacts that the report is sent to."""


class ReportReceipt(Frozen):
    """A report that is whole; paths are relative to its folder."""

    schema_version: Literal[1] = 1
    key: str
    page: StoredObject
    pictures: tuple[StoredObject, ...]
    """The page holds them too."""

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """Every object the receipt vouches for."""
        return (self.page, *self.pictures)


@dataclass(frozen=True, slots=True)
class Reported:
    """A report and where it lies."""

    store: ObjectStore
    receipt: ReportReceipt


class ReportStep(Step[Reported]):
    """Everything before → a page, pictures, and their copies in MLflow."""

    name: ClassVar[str] = "report"

    def __init__(
        self,
        context: Context,
        prepare: PrepareStep,
        train: TrainStep,
        evaluate: EvaluateStep,
        gate: GateStep,
        register: RegisterStep,
    ) -> None:
        super().__init__(context)
        self._prepare = prepare
        self._train = train
        self._evaluate = evaluate
        self._gate = gate
        self._register = register

    def folder(self) -> ObjectStore:
        """Return the report's folder."""
        return self.context.workspace.child(f"reports/{self._key[:16]}")

    def find(self) -> Reported | None:
        """Find a committed report that MLflow has."""
        store = self.folder()
        receipt = self._read()
        if receipt is None or store.stat(self._mark) is None:
            return None
        check_listing(store, receipt.objects)
        return Reported(store, receipt)

    def make(self) -> Reported:
        """Write the report if there is none, and send it to the training's run."""
        receipt = self._read() or self._write()
        if self._send(receipt):
            self.folder().create(self._mark, b"")
        return Reported(self.folder(), receipt)

    def fields(self, product: Reported) -> dict[str, Any]:
        """Return what `--json` shows."""
        return report_fields(product.store)

    @cached_property
    def _key(self) -> str:
        return digest_of(
            {
                "step": "report",
                "version": VERSION,
                "run_key": self._train.product.receipt.run_key,
                "evaluation": sha256_hex(self._evaluate.product.evaluation.to_bytes()),
                "verdict": self._gate.product.digest,
                "registration": sha256_hex(self._register.product.registration.to_bytes()),
            }
        )

    @property
    def _run_id(self) -> str | None:
        """The id of the training's run on this server, as far as the workspace knows."""
        noted = run_ids_on(self._train.folder(), self.context.tracker.server)
        return noted[-1] if noted else None

    @property
    def _mark(self) -> str:
        """Object that says that this server's run has the report."""
        return f"sent/{digest_of([self.context.tracker.server, self._run_id])[:16]}"

    def _read(self) -> ReportReceipt | None:
        body = read_receipt(self.folder(), RECEIPT)
        where = f"{self.folder().uri}/{RECEIPT}"
        return None if body is None else parse_receipt(ReportReceipt, body, where)

    def _write(self) -> ReportReceipt:
        from alexnet.threads import one_thread
        from pipelines.reporting.page import Tracked, render_page
        from pipelines.reporting.pictures import draw_pictures
        from pipelines.reporting.sources import read_sources

        store, tracking, now = self.folder(), self.context.tracking, self.context.timeline
        dataset, training = self._prepare.product, self._train.product
        evaluated = self._evaluate.product
        with one_thread(), self.context.progress("report") as progress:
            sources = read_sources(
                recipe=self.context.recipe,
                dataset=dataset.store,
                manifest=dataset.manifest,
                run=training.store,
                training=training.receipt,
                evaluated=evaluated.store,
                evaluation=evaluated.evaluation,
                verdict=self._gate.product.verdict,
                registration=self._register.product.registration,
                probe=self._probe,
                commands=[
                    *timeline.read_command_notes(training.store, but=now.key),
                    now.note("done"),
                ],
                progress=progress,
            )
        pictures = draw_pictures(sources)
        run_id = self._run_id
        page = render_page(
            sources,
            pictures,
            Tracked(run_id, run_link(run_id, tracking), look_command(tracking)),
            made_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        )
        # Who was taken over comes late: its page must not take the place of the one committed.
        if (held := self._read()) is not None:
            return held
        receipt = ReportReceipt(
            key=self._key,
            page=write_object(store, PAGE, page.encode()),
            pictures=tuple(write_object(store, name, body) for name, body in pictures.items()),
        )
        body = commit_receipt(store, RECEIPT, receipt.to_bytes())
        return parse_receipt(ReportReceipt, body, f"{store.uri}/{RECEIPT}")

    def _send(self, receipt: ReportReceipt) -> bool:
        """Send the report to the training's run; False, and a word about it, if MLflow is away."""
        tracker = self.context.tracker
        bodies = {item.path: read_object(self.folder(), item) for item in receipt.objects}
        try:
            run_id = self._train.run.ensure_id()
            tracker.log_images(run_id, "filters", self._frames())
            tracker.log_table(run_id, "per_class.json", self._per_class())
            tracker.log_files(run_id, _IN_MLFLOW, bodies)
        except TrackingError as error:
            self.context.say(f"report: MLflow is away and gets it next time: {error.problem}")
            return False
        return True

    def _frames(self) -> Mapping[int, Any]:
        from pipelines.reporting.pictures import filters_frame
        from pipelines.reporting.sources import filters_of, read_frames

        _, towers = filters_of(self._probe)
        frames = read_frames(self._train.product.store)
        return {step: filters_frame(filters, towers) for step, filters in frames.items()}

    @cached_property
    def _probe(self) -> "ModelProbe":
        """The last checkpoint's network; its weights are read once."""
        from alexnet.inference.model_probe import ModelProbe
        from alexnet.trained import trained_network

        dataset = self._prepare.product
        checkpoint = self._train.product.checkpoint
        return ModelProbe(trained_network(checkpoint, dataset.store, dataset.manifest))

    def _per_class(self) -> Mapping[str, list[Any]]:
        from pipelines.reporting.sources import class_columns, read_class_counts

        evaluated = self._evaluate.product
        return class_columns(read_class_counts(evaluated.store, evaluated.evaluation))


def report_fields(store: ObjectStore) -> dict[str, Any]:
    """Describe a report as `report --json` does."""
    return {"report": f"{store.uri}/{PAGE}"}
