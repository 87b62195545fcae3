"""What a recipe says about evaluation; torch-free."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from infra.commit import Frozen

if TYPE_CHECKING:
    from alexnet.evaluate.rows import View


class EvaluateSettings(Frozen):
    """How a checkpoint is evaluated."""

    ten_crop: bool = True
    """Also average over ten crops, as the paper does."""
    nine_crop: bool = False
    """Also average over nine crops, none mirrored, as the release does for CIFAR-10."""
    parallelism: Annotated[int, Field(ge=1)] | None = None
    """Workers; none: one a GPU, else one a CPU. Results do not depend on it."""

    @property
    def views(self) -> "tuple[View, ...]":
        """The views that are scored; the centre always is."""
        ten: tuple[View, ...] = ("ten_crop",) if self.ten_crop else ()
        nine: tuple[View, ...] = ("nine_crop",) if self.nine_crop else ()
        return ("center", *ten, *nine)
