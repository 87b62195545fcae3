import os
from pathlib import Path

import pytest

from alexnet.settings import WorkerRange
from alexnet.train.schedule_settings import CosineSchedule, PhasesSchedule
from infra.errors import RecipeError
from pipelines.recipe import Recipe
from pipelines.recipe_yaml import load_recipe, recipe_text, shipped_recipes, slug_of

MINIMAL = """\
name: mine
dataset:
  archives: drawn
train:
  epochs: 3
  schedule: {kind: cosine, weight_rate: 1e-4, bias_rate: 2E-2}
"""


def write_recipe(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def problem_of(name: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, overrides)
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    return caught.value.problem


def test_a_recipe_needs_little_and_has_defaults_for_the_rest(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, MINIMAL))
    assert recipe.name == "mine"
    assert recipe.train.global_batch == 128
    assert recipe.registration.model_name == "alexnet"
    assert recipe.scaling.workers == 1


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-4 for a text; whoever writes it means the number."""
    recipe = load_recipe(write_recipe(tmp_path, MINIMAL), ["gate.min_top1=5e-1", "model.width=1E0"])
    assert recipe.train.schedule == CosineSchedule(weight_rate=0.0001, bias_rate=0.02)
    assert recipe.gate.min_top1 == 0.5
    assert recipe.model.width == 1.0


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("train.epochs=3", "train.epochs", 3),
        ("train.augment.flip=false", "train.augment.flip", False),
        ("train.augment.color_noise=0", "train.augment.color_noise", 0.0),
        ("checkpoint.every_epochs=null", "checkpoint.every_epochs", None),
        ("train.sample_log=/a folder/log", "train.sample_log", "/a folder/log"),
        ("scaling.workers=4", "scaling.workers", 4),
        ("scaling.workers={min: 1, max: 4}", "scaling.workers", WorkerRange(min=1, max=4)),
        ("register.model_name=mine", "registration.model_name", "mine"),
        ("dataset.archives=s3://bucket/a?x=1", "dataset.archives", "s3://bucket/a?x=1"),
        # What is a text stays as it was typed.
        ("run.tag=3", "run.tag", "3"),
        ("run.tag=no", "run.tag", "no"),
        ("run.tag=1e-4", "run.tag", "1e-4"),
        ("run.tag=007", "run.tag", "007"),
        ("run.tag=2024-01-01", "run.tag", "2024-01-01"),
        ("run.tag='3'", "run.tag", "3"),
        ("run.tag=null", "run.tag", None),
        ("run.tag=~", "run.tag", None),
        ("run.tag=2026-31-12", "run.tag", "2026-31-12"),
        ("dataset.name=2012", "dataset.name", "2012"),
    ],
)
def test_an_override_is_read_as_yaml(override: str, path: str, expected: object) -> None:
    found: object = load_recipe("demo", [override])
    for name in path.split("."):
        found = getattr(found, name)
    assert found == expected
    assert type(found) is type(expected)


def test_an_override_reaches_into_a_list() -> None:
    recipe = load_recipe("alexnet-2012", ["train.schedule.phases.1.weight_rate=0.002"])
    schedule = recipe.train.schedule
    assert isinstance(schedule, PhasesSchedule)
    assert [phase.weight_rate for phase in schedule.phases[:3]] == [0.01, 0.002, 0.0001]
    assert schedule.phases[1].from_epoch == 25


def test_overrides_apply_in_order() -> None:
    overrides = ["scaling.workers=4", "train.epochs=2", "scaling.workers={min: 1, max: 2}"]
    recipe = load_recipe("demo", [*overrides, "train.epochs=7", "scaling.workers.max=3"])
    assert recipe.train.epochs == 7
    assert recipe.scaling.workers == WorkerRange(min=1, max=3)


def test_another_schedule_is_given_whole() -> None:
    text = "train.schedule={kind: cosine, weight_rate: 0.1, bias_rate: 0.2}"
    assert load_recipe("alexnet-2012", [text]).train.schedule == CosineSchedule(
        weight_rate=0.1, bias_rate=0.2
    )


@pytest.mark.parametrize(
    ("recipe", "override", "problem"),
    [
        ("demo", "train.epoch=3", "unknown key train.epoch; did you mean train.epochs? (--set)"),
        ("demo", "trian.epochs=3", "unknown key trian; did you mean train? (--set)"),
        ("demo", "zzz=3", "unknown key zzz (--set)"),
        ("demo", "registration.model_name=a", "unknown key registration; did you mean register?"),
        ("demo", "train.epochs=many", "train.epochs should be a valid integer, not 'many' (--set)"),
        ("demo", "train.epochs=2.5", "train.epochs should be a valid integer, not 2.5 (--set)"),
        ("demo", "train.epochs=null", "train.epochs should be a valid integer, not null (--set)"),
        (
            "demo",
            "train.epochs=0",
            "train.epochs should be greater than or equal to 1, not 0 (--set)",
        ),
        ("demo", "model.width=.nan", "model.width should be a finite number, not NaN (--set)"),
        ("demo", "train.augment.flip=1", "train.augment.flip should be a valid boolean, not 1"),
        (
            "demo",
            "train.precision=fp16",
            "train.precision should be 'fp32', 'tf32' or 'bf16', not 'fp16'",
        ),
        ("demo", "train=3", "train should hold keys, not 3 (--set)"),
        ("demo", "dataset.name=My Set", "dataset.name should match pattern "),
        ("demo", "register.model_name=a@b", "register.model_name: 'a@b' is no model's name: give"),
        (
            "demo",
            "dataset.folder=/x",
            "dataset: give exactly one of archives, folder, cifar, huggingface, webdataset",
        ),
        ("demo", "run={tag: 3}", "run.tag should be a valid string, not 3 (--set)"),
        # A union says once what it takes, or what is wrong with the nearest of its types.
        (
            "demo",
            "scaling.workers=abc",
            "scaling.workers should be a valid integer or hold keys, not 'abc' (--set)",
        ),
        (
            "demo",
            "scaling.workers=[1]",
            "scaling.workers should be a valid integer or hold keys (--set)",
        ),
        (
            "demo",
            "scaling.workers=0",
            "scaling.workers should be greater than or equal to 1, not 0 (--set)",
        ),
        (
            "demo",
            "scaling.workers={min: 1, maxx: 2}",
            "scaling.workers.max is missing (--set); "
            "unknown key scaling.workers.maxx; did you mean scaling.workers.max? (--set)",
        ),
        ("demo", "scaling.workers.min=1", "scaling.workers.max is missing"),
        # A discriminated one says which kinds there are, and knows only the keys of the one named.
        (
            "demo",
            "train.schedule.kind=foo",
            "train.schedule.kind should be one of 'phases', 'dexp', 'exp', 'linear', 'cosine',",
        ),
        ("demo", "train.schedule={weight_rate: 1}", "train.schedule.kind is missing (--set)"),
        ("demo", "train.schedule=3", "train.schedule should hold keys, not 3 (--set)"),
        (
            "demo",
            "train.schedule.kind=dexp",
            "train.schedule.weight is missing (demo, line 27); "
            "train.schedule.bias is missing (demo, line 27); "
            "unknown key train.schedule.weight_rate; did you mean train.schedule.weight? "
            "(demo, line 29)",
        ),
        (
            "alexnet-2012",
            "train.schedule.weight_rate=1",
            "unknown key train.schedule.weight_rate (--set)",
        ),
        (
            "alexnet-2012",
            "train.schedule.phases.1.weight_rte=1",
            "unknown key train.schedule.phases.1.weight_rte; "
            "did you mean train.schedule.phases.1.weight_rate? (--set)",
        ),
        (
            "alexnet-2012",
            "train.schedule.phases.3.layers.conv1.weigth_rate=1",
            "unknown key train.schedule.phases.3.layers.conv1.weigth_rate; "
            "did you mean train.schedule.phases.3.layers.conv1.weight_rate? (--set)",
        ),
        (
            "alexnet-2012",
            "train.schedule.phases.1.from_epoch=1",
            "train.schedule: phases start at epochs [1, 1, 51, 67, 72, 79], which do not increase",
        ),
        ("alexnet-2012", "train.schedule.phases=[]", "train.schedule.phases should not be empty"),
        ("alexnet-2012", "train.schedule.phases=3", "train.schedule.phases should be a list, not"),
        (
            "alexnet-2012",
            "train.schedule.phases.9.weight_rate=1",
            "--set train.schedule.phases.9: the list has elements 0 to 5",
        ),
        (
            "alexnet-2012",
            "train.schedule.phases.last=1",
            "--set train.schedule.phases.last: the list has elements 0 to 5",
        ),
        ("demo", "train.epochs", "--set 'train.epochs' is not key.path=value"),
        ("demo", "=3", "--set '=3' is not key.path=value"),
        ("demo", "train..epochs=3", "--set 'train..epochs=3' is not key.path=value"),
        ("demo", "train.epochs=[1", "--set train.epochs: '[1' is not a YAML value"),
        ("demo", "run.tag=!!int x", "--set run.tag: '!!int x' is not a YAML value"),
        ("demo", "run.tag=", "--set run.tag= says no value"),
        ("demo", "dataset.fingerprint= ", "--set dataset.fingerprint= says no value"),
        ("demo", "run.tag=#3", "--set run.tag= says no value"),
    ],
)
def test_a_mistake_in_an_override_is_told_in_a_sentence(
    recipe: str, override: str, problem: str
) -> None:
    assert problem_of(recipe, override).startswith(problem)


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ("  seed: abc\n", "train.seed should be a valid integer, not 'abc' (FILE, line 7)"),
        ("  sed: 3\n", "unknown key train.sed; did you mean train.seed? (FILE, line 7)"),
        ("run:\n  tag: 3\n", "run.tag should be a valid string, not 3 (FILE, line 8)"),
        ("gate:\n", "gate should hold keys, not null (FILE, line 7)"),
        ("scaling:\n  workers: {min: 1}\n", "scaling.workers.max is missing (FILE, line 8)"),
        ("  epochs: 4\n", "FILE is not valid YAML: 'epochs' stands twice (line 7)"),
        ("train: {}\n", "FILE is not valid YAML: 'train' stands twice (line 7)"),
        ("1: 2\n", "FILE is not valid YAML: a key is no text; put it in quotes (line 7)"),
        ("? [a]\n: 3\n", "FILE is not valid YAML: a key is no text; put it in quotes (line 7)"),
        (
            "\tgate: 3\n",
            "FILE is not valid YAML: found character '\\t' that cannot start any token",
        ),
        ("gate: [1\n", "FILE is not valid YAML: expected ',' or ']', but got"),
        ("gate: &a {x: *a}\n", "FILE is not valid YAML: found unconstructable recursive node"),
        ("gate: !!python/name:os.system\n", "FILE is not valid YAML: could not determine a"),
        ("  seed: !!int x\n", "FILE is not valid YAML: invalid literal for int()"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(
    tmp_path: Path, added: str, problem: str
) -> None:
    path = write_recipe(tmp_path, MINIMAL + added)
    assert problem_of(path).startswith(problem.replace("FILE", path))


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    problem = problem_of(write_recipe(tmp_path, "name: A\ntrain:\n  epochs: 0\n"))
    for part in (
        "name should match",
        "dataset is missing",
        "train.epochs",
        "train.schedule is mis",
    ):
        assert part in problem


def test_an_override_mends_the_file(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, MINIMAL + "  seed: abc\n")
    assert load_recipe(path, ["train.seed=3"]).train.seed == 3


def test_merge_keys_are_understood_and_may_be_overridden(tmp_path: Path) -> None:
    phases = """\
    - &first {from_epoch: 1, weight_rate: 0.1, bias_rate: 0.2}
    - {<<: *first, from_epoch: 2}
"""
    text = (
        MINIMAL.partition("  schedule:")[0]
        + f"  schedule:\n    kind: phases\n    phases:\n{phases}"
    )
    schedule = load_recipe(write_recipe(tmp_path, text)).train.schedule
    assert isinstance(schedule, PhasesSchedule)
    assert [phase.from_epoch for phase in schedule.phases] == [1, 2]
    assert schedule.phases[1].bias_rate == 0.2


def test_what_an_anchor_names_twice_is_changed_in_one_place(tmp_path: Path) -> None:
    rates = "{conv1: &r {weight_rate: 1, bias_rate: 2}, conv2: *r}"
    phase = f"{{from_epoch: 1, weight_rate: 0.1, bias_rate: 0.2, layers: {rates}}}"
    head = MINIMAL.partition("  schedule:")[0]
    text = f"{head}  schedule: {{kind: phases, phases: [{phase}]}}\n"
    changed = "train.schedule.phases.0.layers.conv1.weight_rate=3"
    schedule = load_recipe(write_recipe(tmp_path, text), [changed]).train.schedule
    assert isinstance(schedule, PhasesSchedule)
    layers = schedule.phases[0].layers
    assert (layers["conv1"].weight_rate, layers["conv2"].weight_rate) == (3.0, 1.0)


@pytest.mark.parametrize("text", ["", "3\n", "- 1\n", "words\n", "# nothing\n"])
def test_what_holds_no_keys_is_no_recipe(tmp_path: Path, text: str) -> None:
    assert problem_of(write_recipe(tmp_path, text)).endswith("is no recipe: it holds no keys")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("dmeo", "there is no recipe 'dmeo'; did you mean 'demo'?"),
        ("vgg", "there is no recipe 'vgg'"),
        ("no-such.yaml", "recipe file no-such.yaml cannot be read: No such file or directory"),
        (os.sep, f"recipe file {os.sep} cannot be read: Is a directory"),
    ],
)
def test_a_recipe_that_is_not_there(name: str, problem: str) -> None:
    assert problem_of(name) == problem


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert problem_of(str(path)) == f"recipe file {path} cannot be read: it is no UTF-8 text"


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_may_be_copied_to_a_file(tmp_path: Path, name: str) -> None:
    assert load_recipe(write_recipe(tmp_path, recipe_text(name))) == load_recipe(name)


@pytest.mark.parametrize("name", shipped_recipes())
def test_what_show_prints_is_a_recipe_again(tmp_path: Path, name: str) -> None:
    """JSON is YAML, and nothing is lost: `register` goes by its name in a recipe."""
    recipe: Recipe = load_recipe(name)
    assert load_recipe(write_recipe(tmp_path, recipe.model_dump_json())) == recipe


@pytest.mark.parametrize(
    ("folder", "slug"),
    [
        ("/data/My Images", "my-images"),
        ("cats_and_dogs/", "cats-and-dogs"),
        ("s3://bucket/Set.v2", "set-v2"),
        ("/", "images"),
        ("ÄÖÜ", "images"),
        ("a" * 63 + " b", "a" * 63),
    ],
)
def test_a_folders_name_becomes_a_datasets(folder: str, slug: str) -> None:
    assert slug_of(folder) == slug
