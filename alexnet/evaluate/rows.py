"""What is known of each image once it was evaluated: plain arrays, as workers send them."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from infra.errors import RecipeError

View = Literal["center", "ten_crop", "nine_crop"]
VIEW_NAMES: Final[dict[View, str]] = {
    "center": "centre",
    "ten_crop": "ten crops",
    "nine_crop": "nine crops",
}
"""What people read; the order is that of every list of views."""


def view_called(word: str) -> View:
    """Return the view of this name.

    Raises:
        RecipeError: there is none.
    """
    for view in VIEW_NAMES:
        if view == word:
            return view
    raise RecipeError(f"there is no view {word!r}", remedy=f"choose one of {', '.join(VIEW_NAMES)}")


def view_suffix(view: View) -> str:
    """Return what a view adds to the name of a metric or a column; the centre adds nothing."""
    return "" if view == "center" else f"_{view}"


@dataclass(frozen=True, slots=True, eq=False)
class ViewRows:
    """What one view gave for some images, one row an image."""

    top5: npt.NDArray[np.int32]
    """(n, 5) labels of the best classes, best first; or of all, where there are fewer."""
    rank: npt.NDArray[np.int32]
    """(n,) how many classes stand before the true one: right at k when below k."""
    loss: npt.NDArray[np.float64]
    """(n,) -ln p of the true class."""
    probabilities: npt.NDArray[np.float16]
    """(n, classes), rounded; `top5` and `rank` are of the exact ones."""

    @property
    def predicted(self) -> npt.NDArray[np.int32]:
        """Label of the best class, (n,)."""
        return self.top5[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class BlockResult:
    """Each image's result, in the order of the rows."""

    sample_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    views: dict[View, ViewRows]


def join_results(results: list[BlockResult]) -> BlockResult:
    """Join blocks' results, in the order given; at least one."""
    return BlockResult(
        np.concatenate([result.sample_ids for result in results]),
        np.concatenate([result.labels for result in results]),
        {view: _join_views([r.views[view] for r in results]) for view in results[0].views},
    )


def _join_views(parts: list[ViewRows]) -> ViewRows:
    return ViewRows(
        top5=np.concatenate([part.top5 for part in parts]),
        rank=np.concatenate([part.rank for part in parts]),
        loss=np.concatenate([part.loss for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
    )
