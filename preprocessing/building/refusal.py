"""More images cannot be used than a recipe allows: when a build is refused for that, and how."""

from collections.abc import Sequence
from typing import Final

from infra.commit import read_receipt
from infra.parquet import parquet_bytes
from infra.store import ObjectStore
from preprocessing.dataset.manifest import Reject
from preprocessing.dataset.rejects import parse_rejects, rejects_table
from preprocessing.errors import TooManyRejects

REFUSED: Final = "_build/rejects.parquet"
"""The rejects of a build that was refused for them: all that were known then."""
HOPELESS_SHARE: Final = 0.05
"""Of all images: with more rejects, and more than FEW, this is not what was meant to be built."""
FEW: Final = 100
_NAMED: Final = 10


def are_too_many(num_rejects: int, num_images: int, max_rejects: int, *, are_all: bool) -> bool:
    """Tell whether a build is refused: at its end, or before when they are hopelessly many. Pure.

    Args:
        num_images: of the whole plan.
        are_all: whether every image was looked at.
    """
    hopeless = max(FEW, int(HOPELESS_SHARE * num_images))
    return num_rejects > (max_rejects if are_all else max(max_rejects, hopeless))


def refuse_build(
    target: ObjectStore, rejects: Sequence[Reject], max_rejects: int, *, are_all: bool
) -> None:
    """Write down a build's rejects as `REFUSED`, and raise TooManyRejects for them."""
    target.write(REFUSED, parquet_bytes(rejects_table(rejects)))
    check_rejects(rejects, max_rejects, listed_in=f"{target.uri}/{REFUSED}", are_all=are_all)


def check_rejects(
    rejects: Sequence[Reject],
    max_rejects: int,
    *,
    listed_in: str | None = None,
    are_all: bool = True,
) -> None:
    """Raise TooManyRejects, naming up to ten, when there are more than max_rejects.

    Args:
        listed_in: where the list of them is.
        are_all: whether every image was looked at.
    """
    if len(rejects) <= max_rejects:
        return
    lines = [f"  {item.archive}: {item.member}: {item.reason}" for item in rejects[:_NAMED]]
    if len(rejects) > _NAMED:
        lines.append(f"  and {len(rejects) - _NAMED} more")
    if listed_in is not None:
        lines.append(f"  listed in {listed_in}")
    what = "1 image" if len(rejects) == 1 else f"{len(rejects):,} images"
    raise TooManyRejects(
        f"{'' if are_all else 'at least '}{what} cannot be used, {max_rejects} are allowed:\n"
        + "\n".join(lines),
        remedy=f"replace them, or do without them: --set prepare.max_rejects={len(rejects)}"
        if are_all
        else "see by their reasons whether these are the images that were meant: the others were"
        " not looked at; a higher prepare.max_rejects goes on to the end",
    )


def read_refused(store: ObjectStore) -> list[Reject]:
    """Read the rejects of a build that was refused for them; none where there is no such."""
    body = read_receipt(store, REFUSED)
    return [] if body is None else parse_rejects(body)
