"""What commands print: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from alexnet.evaluate.rows import VIEW_NAMES
from infra.errors import ProjectError
from infra.progress import tell
from infra.tracking.place import TrackingPlace
from pipelines.links import look_command, run_link
from pipelines.recipe import Recipe
from pipelines.recipe_yaml import recipe_text, shipped_recipes
from pipelines.tables import (
    cleaning_text,
    comparison_text,
    ensemble_text,
    gradients_text,
    predictions_text,
    printable,
    reaped_text,
    rejected_text,
    runs_text,
    similar_text,
    submission_text,
    validation_text,
    verification_text,
)
from pipelines.workflow import Outcome

Describe = Callable[[dict[str, Any]], str]
"""Fields → text for people."""


def print_step(outcome: Outcome, *, as_json: bool) -> None:
    """Print what one step came to."""
    print_fields(outcome.fields, as_json=as_json)


def print_run(
    outcomes: Sequence[Outcome], tracking: TrackingPlace, *, as_json: bool, dry_run: bool = False
) -> None:
    """Print what a whole run came to, and how to look at it; of a dry run, which steps hold."""
    if as_json:
        _print_json(run_fields(outcomes))
    elif dry_run:
        _print_text("\n".join(f"{outcome.name:<9} {outcome.state}" for outcome in outcomes))
    else:
        _print_text(_summary(run_fields(outcomes), tracking))


def run_fields(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Merge the steps' fields; `uri` stays the dataset's, each step has its own."""
    steps = [
        {"name": o.name, "state": o.state, "seconds": round(o.seconds, 3), "uri": o.uri}
        for o in outcomes
    ]
    merged: dict[str, Any] = {"steps": steps}
    for outcome in outcomes:
        merged = {**outcome.fields, **merged}
    return merged


def print_fields(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print a description: as JSON, or as YAML for people."""
    _print(fields, _as_yaml, as_json=as_json)


def print_predictions(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print what was predicted; for people, what is no image comes last, on standard error."""
    _print_with_rejects(fields, predictions_text, as_json=as_json)


def print_features(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print what was written; for people, what is no image on standard error."""
    _print_with_rejects(fields, _features_text, as_json=as_json)


def print_similar(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print each image's neighbours; for people, what is no image on standard error."""
    _print_with_rejects(fields, similar_text, as_json=as_json)


def print_runs(runs: Sequence[dict[str, Any]], workspace: str, *, as_json: bool) -> None:
    """List the trainings of a workspace."""
    if as_json:
        _print_json({"runs": list(runs)})
    else:
        _print_text(runs_text(runs, workspace))


def print_reaped(runs: Sequence[dict[str, Any]], workspace: str, *, as_json: bool) -> None:
    """List the runs that are called KILLED now."""
    if as_json:
        _print_json({"reaped": list(runs)})
    else:
        _print_text(reaped_text(runs, workspace))


def print_comparison(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print trainings side by side, and where MLflow shows them so."""
    _print(fields, comparison_text, as_json=as_json)


def print_ensemble(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print what a mixture of networks gets right, beside its members."""
    _print(fields, ensemble_text, as_json=as_json)


def print_validation(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print what a network gets right of a dataset's validation images."""
    _print(fields, validation_text, as_json=as_json)


def print_submission(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print what file of answers there is, and its errors where the truth was given."""
    _print(fields, submission_text, as_json=as_json)


def print_gradients(fields: dict[str, Any], error: ProjectError | None, *, as_json: bool) -> None:
    """Print how far each gradient is from finite differences; as JSON the error is in it."""
    _print_checked(fields, gradients_text, error, as_json=as_json)


def print_recipes(*, as_json: bool) -> None:
    """List the shipped recipes with the first sentence of their headers."""
    found = {name: _first_sentence(recipe_text(name)) for name in shipped_recipes()}
    if as_json:
        _print_json({"recipes": [{"name": n, "summary": s} for n, s in found.items()]})
    else:
        width = max(map(len, found))
        _print_text("\n".join(f"{name:<{width}}  {text}" for name, text in found.items()))


def print_recipe(recipe: Recipe, *, as_json: bool) -> None:
    """Print a resolved recipe."""
    print_fields(recipe.model_dump(mode="json"), as_json=as_json)


def print_verification(
    fields: dict[str, Any], error: ProjectError | None, *, as_json: bool
) -> None:
    """Print what a check of a dataset found; as JSON one document, the error in it if any."""
    _print_checked(fields, verification_text, error, as_json=as_json)


def print_cleaning(fields: dict[str, Any], *, as_json: bool) -> None:
    """Print what was removed from a workspace."""
    _print(fields, cleaning_text, as_json=as_json)


def print_error(error: ProjectError, *, as_json: bool) -> None:
    """Print a deliberate failure: one message, what to do, no traceback."""
    if as_json:
        _print_json(_error_fields(error))
    problem, remedy = (
        "\n".join(map(printable, text.split("\n"))) for text in (error.problem, error.remedy)
    )
    tell(sys.stderr, f"error: {problem}\n  what to do: {remedy}")


def _features_text(fields: dict[str, Any]) -> str:
    what = f"{fields['count']:,} images, {fields['width']:,} activations of {fields['layer']} each"
    return f"{what} → {fields['output']}"


def _print(fields: dict[str, Any], text_of: Describe, *, as_json: bool) -> None:
    if as_json:
        _print_json(fields)
    else:
        _print_text(text_of(fields))


def _print_checked(
    fields: dict[str, Any], text_of: Describe, error: ProjectError | None, *, as_json: bool
) -> None:
    """Print what was checked and, where something is wrong, the error it ends with."""
    _print(fields if error is None else fields | _error_fields(error), text_of, as_json=as_json)
    if error is not None:
        print_error(error, as_json=False)


def _print_with_rejects(fields: dict[str, Any], text_of: Describe, *, as_json: bool) -> None:
    _print(fields, text_of, as_json=as_json)
    rejected = rejected_text(fields)
    if rejected and not as_json:
        tell(sys.stderr, rejected)


def _error_fields(error: ProjectError) -> dict[str, Any]:
    described = {
        "type": type(error).__name__,
        "message": error.problem,
        "remedy": error.remedy,
        "exit_code": int(error.exit_code),
    }
    return {"error": described}


def _summary(fields: dict[str, Any], tracking: TrackingPlace) -> str:
    views = [(fields[view], name) for view, name in VIEW_NAMES.items() if fields[view]]
    top1 = ", ".join(f"{accuracy['top1']:.4f} {name}" for accuracy, name in views)
    lines = [
        f"top-1      {top1}, on {fields['count']:,} validation images",
        f"gate       {fields['verdict']}: {'; '.join(fields['reasons'])}",
        f"model      {fields['model_uri']}  ({', '.join(fields['aliases']) or 'no alias'})",
        f"report     {fields['report']}",
        f"run        {run_link(fields['mlflow_run_id'], tracking)}",
    ]
    if look := look_command(tracking):
        lines.append(f"look       {look}")
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    header = [line.lstrip("# ").rstrip() for line in text.splitlines() if line.startswith("#")]
    paragraph = " ".join(header[: header.index("")] if "" in header else header)
    return paragraph.partition(". ")[0].rstrip(".") + "."


def _as_yaml(fields: dict[str, Any]) -> str:
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100).rstrip()


def _print_json(document: dict[str, Any]) -> None:
    # Where standard output lacks letters they are escaped, in the way that JSON knows.
    has_all = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    _print_text(json.dumps(document, indent=1, ensure_ascii=not has_all))


def _print_text(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
