"""`alexnet ensemble`: evaluations of several networks on the same images, averaged."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np

from alexnet.evaluate.ensemble import Parts, Rivals, mix, parts_of, search_weights
from alexnet.evaluate.evaluation import Accuracy
from alexnet.evaluate.rows import BlockResult, view_called
from alexnet.evaluate.tables import predictions_table
from infra.errors import RecipeError
from pipelines.context import refuse_relative_in_a_job
from pipelines.inference.ensemble_file import ensemble_bytes
from pipelines.inference.output_files import check_output_file, write_output
from pipelines.lookup.evaluations import (
    Found,
    Kept,
    accuracy_fields,
    find_evaluation,
    read_kept,
)

SUFFIXES: Final = (".parquet",)
_LONGEST_NUMBER: Final = 40


def combine_evaluations(
    names: Sequence[str],
    *,
    weights: Sequence[str | float] | None,
    search: bool,
    view: str,
    output: str | None,
    workspace: str,
) -> dict[str, Any]:
    """Average what evaluations kept of the same images; returns what `ensemble --json` prints.

    Args:
        names: folders or URIs of evaluations, or trainings as `find_run` takes them; two or more.
        weights: of each, a number or as 0.3 or 1/3; none: equal ones.
        search: find the weights, on all images and, to be believed, on one half for the other.
        view: a name of `VIEW_NAMES`.
        output: a .parquet file to write, with the columns of an evaluation's predictions.
        workspace: where trainings are looked for.

    Raises:
        RecipeError: weights, view or output are wrong, one is named twice, or the evaluations are
            not of the same images.
        DataError: there is no such evaluation, or it has no such view.
        ObjectCorrupt: its bytes are damaged.
    """
    refuse_relative_in_a_job("the workspace", workspace)
    of_view = view_called(view)
    _refuse_contradictions(names, weights, search=search)
    chosen = None if weights is None else _parsed(weights, len(names))
    if output is not None:
        check_output_file(output, SUFFIXES)
    members = [find_evaluation(name, workspace=workspace, view=of_view) for name in names]
    _refuse_twice(members)
    _refuse_other_images(members)
    kept = [read_kept(member) for member in members]
    rivals = Rivals.of([one.probabilities for one in kept], kept[0].labels)
    equal = (1,) * len(members)
    if search and len(kept[0].labels) < 2:
        raise RecipeError("--search needs two images or more", remedy="give --weights instead")
    parts = chosen or (search_weights(rivals) if search else equal)
    if output is not None:
        _write(kept, parts, rivals, members[0], output)
    first = members[0].evaluation
    return {
        "view": view,
        "count": first.count,
        "validation_digest": first.validation_digest,
        "members": [
            # Its own figures are of the exact probabilities, not of those it kept.
            {
                "uri": member.store.uri,
                "weight": weight,
                **accuracy_fields(member.accuracy, first.count),
            }
            for member, weight in zip(members, _shares(parts), strict=True)
        ],
        "ensemble": _tallied(rivals, parts),
        "search": _searched(rivals, equal) if search else None,
        "output": output,
    }


def _refuse_contradictions(
    names: Sequence[str], weights: Sequence[str | float] | None, *, search: bool
) -> None:
    if len(names) < 2:
        raise RecipeError(
            "an ensemble takes two or more evaluations",
            remedy="name several, or look at one with `alexnet inspect`",
        )
    if search and weights is not None:
        raise RecipeError(
            "--search finds the weights that --weights gives", remedy="leave out one of the two"
        )


def _parsed(weights: Sequence[str | float], count: int) -> Parts:
    """Read weights as they are written: 0.3 and 0.7, or 1, 2 and 1, or 1/3 and 2/3."""
    try:
        if len(weights) != count:
            raise ValueError(f"{len(weights)} weights for {count} evaluations")
        return parts_of([_number(weight) for weight in weights])
    except ValueError as error:
        raise RecipeError(
            f"--weights {','.join(map(str, weights))}: {error}",
            remedy="give each evaluation a number, in their order, with commas between: 0.3,0.7",
        ) from error


def _number(weight: str | float) -> Fraction:
    word = str(weight).strip()
    # A power of ten would be written out, and may have more digits than there is memory. Not of a
    # number, which Python may write so by itself, and has 300 of them at most.
    if isinstance(weight, str) and (len(word) > _LONGEST_NUMBER or "e" in word.lower()):
        raise ValueError(f"{word!r} is not written as 0.3 or 1/3")
    try:
        return Fraction(word)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{word!r} is no number") from error


def _refuse_twice(members: Sequence[Found]) -> None:
    uris = [member.store.uri for member in members]
    for uri in uris:
        if uris.count(uri) > 1:
            raise RecipeError(
                f"{uri} is named twice", remedy="name it once, and give it the --weights it is due"
            )


def _refuse_other_images(members: Sequence[Found]) -> None:
    """Refuse evaluations of other images, or of other classes, than the first one's."""
    first, *others = members
    for other in others:
        if other.evaluation.validation_digest != first.evaluation.validation_digest:
            raise RecipeError(
                f"{first.store.uri} and {other.store.uri} are evaluations of different images:"
                f" {first.evaluation.validation_digest[:12]} and"
                f" {other.evaluation.validation_digest[:12]}",
                remedy="combine evaluations on one dataset's validation split; `alexnet inspect`"
                " shows which one each is of",
            )


def _searched(rivals: Rivals, equal: Parts) -> dict[str, Any]:
    """Search on every second image and count on the others: what the search is worth elsewhere."""
    rows = np.arange(rivals.own.shape[1])
    even, odd = rivals.of_images(rows[::2]), rivals.of_images(rows[1::2])
    parts = search_weights(even)
    return {
        "weights": _shares(parts),
        "searched_on": _tallied(even, parts),
        "held_out": _tallied(odd, parts),
        "held_out_equal_weights": _tallied(odd, equal),
    }


def _write(kept: Sequence[Kept], parts: Parts, rivals: Rivals, first: Found, output: str) -> None:
    probabilities = [one.probabilities for one in kept]
    rows = mix(probabilities, kept[0].labels, parts, rivals)
    result = BlockResult(kept[0].sample_ids, kept[0].labels, {first.view: rows})
    fingerprint = first.evaluation.dataset_fingerprint
    write_output(output, ensemble_bytes(predictions_table(result), fingerprint))


def _shares(parts: Parts) -> list[float]:
    return [part / sum(parts) for part in parts]


def _tallied(rivals: Rivals, parts: Parts) -> dict[str, Any]:
    tally = rivals.tally(parts)
    accuracy = Accuracy(
        top1=tally.correct1 / tally.count,
        top5=tally.correct5 / tally.count,
        correct1=tally.correct1,
        correct5=tally.correct5,
        loss=tally.loss,
    )
    return accuracy_fields(accuracy, tally.count)
