"""What a recipe says about evaluation; torch-free."""

from typing import Annotated

from pydantic import Field

from infra.commit import Frozen


class EvaluateSettings(Frozen):
    """How a checkpoint is evaluated."""

    ten_crop: bool = True
    """Also average over ten crops, as the paper does."""
    parallelism: Annotated[int, Field(ge=1)] | None = None
    """Workers; none: one a GPU, else one a CPU. Results do not depend on it."""
