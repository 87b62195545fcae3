"""One command: open the context, bring the steps to their products, say what came of it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from infra.errors import GateRefused
from infra.store import ObjectStore
from infra.tracking.place import TrackingPlace
from pipelines.context import Context, open_context
from pipelines.output import print_run, print_step
from pipelines.recipe import Recipe
from pipelines.steps.graph import build_steps, run_folder
from pipelines.timeline import how_it_ended, write_note
from pipelines.workflow import Outcome, Step, look_at_steps, run_steps


def run_command(
    recipe: Recipe,
    until: str,
    *,
    workspace: str,
    tracking_uri: str | None,
    command: str,
    as_json: bool,
    whole: bool = False,
    dry_run: bool = False,
) -> None:
    """Run the workflow up to a step and print the result: of the step, or of the whole run.

    Args:
        recipe: resolved.
        until: the last step.
        workspace: holds everything made.
        tracking_uri: MLflow server, if not a file there.
        command: what was typed, to be noted in the run's folder and shown in the report.
        as_json: print one JSON document.
        whole: print what the whole run came to.
        dry_run: only look which steps hold.

    Raises:
        GateRefused: the gate said no; all else was done and printed before.
        ProjectError: any other deliberate failure.
    """
    outcomes, tracking = bring_about(
        recipe,
        until,
        workspace=workspace,
        tracking_uri=tracking_uri,
        command=command,
        dry_run=dry_run,
    )
    if whole:
        print_run(outcomes, tracking, as_json=as_json, dry_run=dry_run)
    else:
        print_step(outcomes[-1], as_json=as_json)
    _raise_if_refused(outcomes)


def bring_about(
    recipe: Recipe,
    until: str,
    *,
    workspace: str,
    tracking_uri: str | None,
    command: str,
    dry_run: bool,
) -> tuple[list[Outcome], TrackingPlace]:
    """Run the workflow up to a step, or only look at it; return how each step went, and where.

    Raises:
        ProjectError: any deliberate failure; a refusal by the gate is an outcome.
    """
    # Ray and MLflow print now and then; standard output holds the result and nothing else.
    with redirect_stdout(sys.stderr):
        context = open_context(
            recipe,
            workspace=workspace,
            tracking_uri=tracking_uri,
            command=command,
            stream=sys.stderr,
        )
        try:
            steps = build_steps(context, until=until)
            if dry_run:
                outcomes = look_at_steps(steps)
            else:
                with _noted(context, steps) as note_begin:
                    outcomes = run_steps(steps, begin=note_begin)
        finally:
            context.close()
    return outcomes, context.tracking


@contextmanager
def _noted(context: Context, steps: Sequence[Step[Any]]) -> Iterator[Callable[[], None]]:
    """Leave a note of the command in the run's folder, however it ends.

    The block is given what notes that a step begins to make something: a kill leaves that note.
    """
    raised: BaseException | None = None
    timeline, begun = context.timeline, list[ObjectStore]()

    def note_begin() -> None:
        if (run := run_folder(context, steps)) is not None:
            begun.append(run)
            write_note(run, timeline.open_note(), timeline.key)

    try:
        yield note_begin
    except BaseException as error:
        raised = error
        raise
    finally:
        run = run_folder(context, steps)
        if run is not None:
            note = timeline.note(how_it_ended(raised))
            write_note(run, note, timeline.key, is_there=bool(begun))


def _raise_if_refused(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.fields.get("verdict") == "refused":
            raise GateRefused(
                "the gate refused this model: " + "; ".join(outcome.fields["reasons"]),
                remedy="train a better one, or change the recipe's gate; the champion stays",
            )
