import pytest

from infra.errors import RecipeError
from pipelines.recipe import Recipe, check_network
from pipelines.recipe_yaml import load_recipe, shipped_recipes


def refusal(name: str, *overrides: str) -> RecipeError:
    """Return how loading is refused, or checking the network."""
    with pytest.raises(RecipeError) as caught:
        check_network(load_recipe(name, overrides))
    return caught.value


@pytest.mark.parametrize(
    ("recipe", "overrides", "problem", "remedy"),
    [
        (
            "demo",
            ["train.augment.crop_px=73"],
            "train.augment.crop_px is 73, but images are stored at 72 px",
            "set it to at most 72, or raise prepare.stored_px",
        ),
        (
            "demo",
            ["scaling.workers={min: 3, max: 2}"],
            "scaling.workers has min 3 above max 2",
            "set scaling.workers.min <= max",
        ),
        (
            "demo",
            ["scaling.workers=65"],
            "train.global_batch is 64, too few for 65 workers",
            "set it to at least 130",
        ),
        (
            "demo",
            ["scaling.workers={min: 1, max: 65}"],
            "train.global_batch is 64, too few for 65 workers",
            "set it to at least 130",
        ),
        (
            "alexnet-2012",
            ["train.epochs=78"],
            "train.schedule.phases: the last phase starts at epoch 79, after the last "
            "(train.epochs is 78)",
            "set train.epochs to at least 79, or remove the phases after epoch 78",
        ),
        (
            "imagenette-cpu",
            ["train.augment.view_px=100"],
            "train.augment.view_px is 100, not between crop_px (112) and prepare.stored_px (160)",
            "set it between the two, or to null",
        ),
        (
            "imagenette-cpu",
            ["train.augment.crop_sharing=32"],
            "train.augment.crop_sharing shares crops of one size, and resized_crop has none",
            "set one of them to its default: crop_sharing to 1, or resized_crop to null",
        ),
        (
            "imagenette-cpu",
            ["train.augment.normalise=mean-image"],
            "train.augment.normalise is mean-image, which does not fit parts of another scale",
            "set train.augment.normalise to channels, or resized_crop to null",
        ),
        (
            "demo",
            ["train.progressive={first_px: 65}"],
            "train.progressive.first_px is 65, above crop_px (64)",
            "set it to at most 64, or train.progressive to null",
        ),
        (
            "demo",
            ["train.mixing={mixup: 0.2}", "train.order=fixed"],
            "train.mixing blends neighbours, which are the same every epoch in a fixed order",
            "set train.order to reshuffled, or train.mixing to null",
        ),
    ],
)
def test_what_cannot_work_together_is_refused_when_it_is_read(
    recipe: str, overrides: list[str], problem: str, remedy: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides)
    assert caught.value.problem == problem
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("{kind: adamw, lars_trust: 0.001}", "lars_trust needs kind sgd-2012: adamw has no LARS"),
        ("{kind: sgd, epsilon: 0.001}", "epsilon needs kind adamw: sgd has none"),
        ("{kind: adamw, nesterov: true}", "adamw does not look ahead"),
        ("{kind: adamw}", "adamw needs a weight_decay of its own, 0.05 say"),
    ],
)
def test_what_an_update_rule_does_not_have_is_refused_with_the_key(
    settings: str, problem: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("demo", [f"train.optimizer={settings}"])
    assert "train.optimizer" in caught.value.problem
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("demo", ["train.augment.crop_px=72"]),
        ("demo", ["train.optimizer={kind: adamw, weight_decay: 0.05, clip_norm: 1}"]),
        ("demo", ["scaling.workers={min: 2, max: 2}"]),
        ("demo", ["scaling.workers=32"]),
        ("demo", ["train.global_batch=1"]),
        ("demo", ["train.mixing={mixup: 0.2}", "train.progressive={first_px: 64}"]),
        ("alexnet-2012", ["train.epochs=79"]),
    ],
)
def test_what_just_works_is_taken(recipe: str, overrides: list[str]) -> None:
    load_recipe(recipe, overrides)


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_networks_of_shipped_recipes_can_be_built(name: str) -> None:
    check_network(load_recipe(name))


@pytest.mark.parametrize(
    ("recipe", "overrides", "words"),
    [
        ("demo", ["model.name=alexnet-2021"], ["model: ", "alexnet-2021", "alexnet-2012"]),
        ("demo", ["train.augment.crop_px=8"], ["model: ", "8"]),
        ("demo", ["model.name=alexnet-torchvision"], ["model: ", "init"]),
        (
            "alexnet-2012",
            ["train.schedule.phases.3.layers={conv9: {weight_rate: 1, bias_rate: 1}}"],
            ["train.schedule names layers that alexnet-2012 lacks: conv9", "conv1", "fc8"],
        ),
        (
            "demo",
            ["train.optimizer.layer_decay={conv9: 0}"],
            ["train.optimizer.layer_decay names layers that alexnet-2012 lacks: conv9"],
        ),
        (
            "imagenette-cpu",
            ["train.optimizer.layer_decay={norm2: 0.1, conv2: 0, norm1: 0.1}"],
            ["layers without a weight that is decayed: norm1, norm2", "decay_all to true"],
        ),
        (
            "demo",
            ["train.progressive={first_px: 32}"],
            [
                "alexnet-2012, built for 64 px, does not take 32",
                "alexnet-torchvision",
                "alexnet-bn",
            ],
        ),
        (
            "alexnet-modern",
            ["train.progressive={first_px: 38}"],
            ["alexnet-bn, built for 227 px, does not take 38", "larger sizes"],
        ),
        (
            "alexnet-torchvision",
            ["scaling.compile=true", "train.progressive={first_px: 64}"],
            ["every size would be compiled anew", "scaling.compile to false"],
        ),
        (
            "imagenette-cpu",
            ["scaling.compile=true", "scaling.workers={min: 1, max: 2}"],
            ["scaling.compile is set, but alexnet-bn has batch norm", "scaling.workers to 1"],
        ),
        (
            "imagenette-cpu",
            ["scaling.microbatch=16"],
            ["scaling.microbatch", "alexnet-bn has batch norm", "null"],
        ),
    ],
)
def test_a_network_that_cannot_be_built_or_rated_is_refused(
    recipe: str, overrides: list[str], words: list[str]
) -> None:
    error = refusal(recipe, *overrides)
    assert error.exit_code == 2
    for word in words:
        assert word in f"{error.problem} {error.remedy}"


@pytest.mark.parametrize(
    ("recipe", "override"),
    [
        ("alexnet-torchvision", "train.progressive={first_px: 64}"),
        ("alexnet-modern", "train.progressive={first_px: 128}"),
        ("imagenette-cpu", "train.progressive={first_px: 64}"),
        ("alexnet-torchvision", "scaling.microbatch=64"),
        ("alexnet-2012", "scaling.compile=true"),
        ("imagenette-cpu", "scaling.compile=true"),
        ("imagenette-cpu", "train.optimizer.layer_decay={conv2: 0}"),
        ("alexnet-modern", "train.optimizer={decay_all: true, layer_decay: {norm1: 0.1}}"),
        ("cifar-18pct", "train.schedule.phases.0.layers={fc10: {weight_rate: 1, bias_rate: 1}}"),
    ],
)
def test_a_network_that_can_is_taken(recipe: str, override: str) -> None:
    check_network(load_recipe(recipe, [override]))


def test_the_digest_is_of_the_resolved_recipe() -> None:
    """However it was spelled: it is the tag by which runs in MLflow are told apart."""
    digest = load_recipe("demo").digest
    assert digest == load_recipe("demo", ["train.epochs=20"]).digest
    assert digest != load_recipe("demo", ["train.epochs=21"]).digest
    assert digest != load_recipe("demo", ["run.tag=again"]).digest
    assert digest == Recipe.model_validate_json(load_recipe("demo").model_dump_json()).digest


def test_a_recipe_dumps_register_under_its_name_and_comes_back() -> None:
    recipe = load_recipe("demo", ["register.model_name=mine"])
    fields = recipe.model_dump(mode="json")
    assert fields["register"] == {"model_name": "mine"}
    assert "registration" not in fields
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_recipes_cannot_be_changed() -> None:
    recipe = load_recipe("demo")
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.epochs = 3
