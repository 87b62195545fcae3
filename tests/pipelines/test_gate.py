from typing import Any

import pytest

from infra.errors import RecipeError
from pipelines.gate import refuse_other_classes
from pipelines.prepare import Dataset


def test_a_champion_of_other_classes_is_no_rival(tiny_training: Any) -> None:
    dataset = Dataset(tiny_training.store, tiny_training.manifest)
    classes = tiny_training.manifest.classes
    refuse_other_classes("models:/alexnet@champion", classes, dataset)
    other = classes.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(RecipeError, match="tells other classes apart") as caught:
        refuse_other_classes("models:/alexnet@champion", other, dataset)
    assert "register.model_name" in caught.value.remedy
