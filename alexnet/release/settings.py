"""What a recipe says about the gate and the registry; free of torch and MLflow."""

from typing import Annotated

from pydantic import Field

from infra.commit import Frozen


class GateSettings(Frozen):
    """What a model must reach to become champion."""

    min_top1: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Least accuracy of the centre view on the validation split, as a fraction."""
    min_gain: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """Least gain in that accuracy over the champion, as a fraction.

    At 0 and above it decides alone: who gets as many images right cannot be worse by the exact
    McNemar test. Below 0 that test refuses what is worse beyond chance, whatever is allowed.
    """


class RegisterSettings(Frozen):
    """Under which name a model is published."""

    model_name: Annotated[str, Field(min_length=1, pattern=r"^[^/:'\"`]+$")] = "alexnet"
    """Registered model in MLflow; `models:/NAME@champion` loads the best of it."""
