"""What a recipe says about the gate and the registry; free of torch and MLflow."""

import re
from typing import Annotated, Final

from pydantic import Field, field_validator

from infra.commit import Frozen

MODEL_NAME: Final = r"""[^\s.'"`/:@\x00-\x1f](?:[^'"`/:@\x00-\x1f]*[^\s'"`/:@\x00-\x1f])?"""
"""A registered model's name: one that MLflow takes and `models:/NAME@ALIAS` can be split at again.

It begins with no dot, and neither begins nor ends with a blank.
"""


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

    model_name: Annotated[str, Field(max_length=256)] = "alexnet"
    """Registered model in MLflow; `models:/NAME@champion` loads the best of it."""

    @field_validator("model_name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if re.fullmatch(MODEL_NAME, name) is None:
            raise ValueError(
                f"{name!r} is no model's name: give one without quotes and / : @, that begins with"
                " no dot and has no blanks around it"
            )
        return name
