from typing import Any

import pytest

from infra.errors import RecipeError
from pipelines.gate import refuse_other_classes
from pipelines.prepare import Dataset


def test_a_champion_of_other_classes_is_no_rival(tiny_training: Any) -> None:
    dataset = Dataset(tiny_training.store, tiny_training.manifest)
    classes = tiny_training.manifest.classes
    refuse_other_classes("models:/alexnet@champion", classes.sha256, dataset)
    with pytest.raises(RecipeError, match="tells other classes apart") as caught:
        refuse_other_classes("models:/alexnet@champion", "0" * 64, dataset)
    assert "register.model_name" in caught.value.remedy
