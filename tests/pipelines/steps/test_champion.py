import io
from pathlib import Path
from typing import Any

import pytest

from alexnet.release.package import copy_package, write_package
from alexnet.release.registry import CLASSES_TAG, ModelRegistry
from infra.errors import DataError, ObjectCorrupt, RecipeError
from infra.store import FolderStore, MemoryStore
from infra.tracking.place import place_for
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.steps.champion import Rival
from pipelines.steps.prepare import Dataset


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    folder = tmp_path_factory.mktemp("mlflow")
    registry = ModelRegistry(f"sqlite:///{folder}/mlflow.db", "alexnet")
    registry.registry_id()  # makes the model
    return registry


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def rival_of(registry: ModelRegistry, tiny_training: Any, tmp_path: Path, said: Any) -> Any:
    """What makes a champion of a folder with files, and the rival it is to a dataset."""

    def rival(
        files: Path, *, dataset: Dataset | None = None, evaluation: str = "", **tags: str
    ) -> Rival:
        if evaluation:
            tags["alexnet.evaluation_uri"] = evaluation
        client = registry._client
        made = client.create_model_version(registry.name, source=files.as_uri(), tags=tags)
        registry.set_alias("champion", str(made.version))
        champion = registry.champion()
        assert champion is not None
        workspace = FolderStore(tmp_path / "workspace")
        context = Context(load_recipe("demo"), workspace, place_for(workspace, None), said)
        ours = dataset or Dataset(tiny_training.store, tiny_training.manifest)
        return Rival(context, registry, champion, ours)

    return rival


def test_a_champion_of_other_classes_is_no_rival(
    rival_of: Any, tiny_training: Any, tmp_path: Path
) -> None:
    write_package(tiny_training.trained, tmp_path / "champion" / "artifacts")
    same = {CLASSES_TAG: tiny_training.manifest.classes.sha256}
    rival_of(tmp_path / "champion", **same).check()
    with pytest.raises(RecipeError, match="tells other classes apart") as caught:
        rival_of(tmp_path / "champion", **{CLASSES_TAG: "0" * 64}).check()
    assert "register.model_name" in caught.value.remedy


@pytest.mark.parametrize("files", ["another program's", "deleted"])
def test_a_champion_that_is_no_network_of_ours_is_told_before_the_training(
    rival_of: Any, tmp_path: Path, files: str
) -> None:
    if files != "deleted":
        (tmp_path / "champion").mkdir()
        (tmp_path / "champion" / "MLmodel").write_text("flavors: {sklearn: {}}")
    rival = rival_of(tmp_path / "champion")
    for ask in (rival.check, rival.contender):
        with pytest.raises(RecipeError, match=r"alexnet@champion, .* no network") as caught:
            ask()
        assert "register.model_name" in caught.value.remedy


def test_a_package_with_a_part_missing_is_not_copied(tiny_training: Any, tmp_path: Path) -> None:
    places = MemoryStore()
    with pytest.raises(DataError, match="holds no model"):
        copy_package(FolderStore(tmp_path / "nowhere"), places)
    write_package(tiny_training.trained, tmp_path)
    (tmp_path / "statistics.safetensors").unlink()
    with pytest.raises(ObjectCorrupt, match="statistics"):
        copy_package(FolderStore(tmp_path), places)
    assert not [info for info in places.list() if info.key.endswith("model.json")]


@pytest.mark.parametrize("damage", ["another version's", "copied in part", "no place of ours"])
def test_an_evaluation_of_the_champion_that_cannot_be_used_counts_as_none(
    rival_of: Any, finished_run: Any, said: io.StringIO, damage: str
) -> None:
    """Deleting it, which the errors advise, is not for us: it is the champion's."""
    place = finished_run.evaluated
    ours = Dataset(finished_run.dataset, finished_run.manifest)
    files = Path(finished_run.workspace.uri)
    found = rival_of(files, dataset=ours, evaluation=place.uri).contender()
    assert found.evaluation == finished_run.evaluation
    if damage == "another version's":
        place.write("evaluation.json", b'{"schema_version": 9}')
    elif damage == "copied in part":
        (Path(place.uri) / "predictions.parquet").unlink()
    uri = "s3:/odd" if damage == "no place of ours" else place.uri
    rival = rival_of(files, dataset=ours, evaluation=uri)
    with pytest.raises(RecipeError, match="is no network to compare with"):
        rival.contender()  # so it went on to the model's files
    assert (damage == "no place of ours") or "cannot be used" in said.getvalue()


@pytest.mark.ray
def test_a_champion_is_evaluated_at_the_size_that_it_was_trained_on(
    ray_local: Any, rival_of: Any, tiny_training: Any, write_tiny_dataset: Any, tmp_path: Path
) -> None:
    """Its crops of 40 px would not even fit into our images of 32."""
    store = FolderStore(tmp_path / "small")
    small = Dataset(store, write_tiny_dataset(store, 32))
    write_package(tiny_training.trained, tmp_path / "champion" / "artifacts")
    rival = rival_of(tmp_path / "champion", dataset=small)
    rival.check()
    rival._context.__dict__["cluster"] = ray_local
    contender = rival.contender()
    assert contender.name == rival._champion.version
    assert contender.evaluation.dataset_fingerprint == small.manifest.fingerprint
    assert len(contender.correct) == 150
    assert contender.note.endswith("was trained on is not known")
