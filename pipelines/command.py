"""One command: open the context, bring the steps to their products, say what came of it."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from infra.errors import GateRefused
from pipelines.context import open_context
from pipelines.output import print_run, print_step
from pipelines.recipe import Recipe
from pipelines.steps import build_steps
from pipelines.workflow import Outcome, look_at_steps, run_steps


def run_command(
    recipe: Recipe,
    until: str,
    *,
    workspace: str,
    tracking_uri: str | None,
    as_json: bool,
    whole: bool = False,
    dry_run: bool = False,
) -> None:
    """Run the workflow up to a step and print the result: of the step, or of the whole run.

    Raises:
        GateRefused: the gate said no; all else was done and printed before.
        ProjectError: any other deliberate failure.
    """
    # Ray and MLflow print now and then; standard output holds the result and nothing else.
    with redirect_stdout(sys.stderr):
        context = open_context(
            recipe, workspace=workspace, tracking_uri=tracking_uri, stream=sys.stderr
        )
        try:
            steps = build_steps(context, until=until)
            outcomes = look_at_steps(steps) if dry_run else run_steps(steps)
        finally:
            context.close()
    if whole:
        print_run(outcomes, context.tracking, as_json=as_json)
    else:
        print_step(outcomes[-1], as_json=as_json)
    _raise_if_refused(outcomes)


def _raise_if_refused(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.fields.get("verdict") == "refused":
            raise GateRefused(
                "the gate refused this model: " + "; ".join(outcome.fields["reasons"]),
                remedy="train a better one, or change the recipe's gate; the champion stays",
            )
