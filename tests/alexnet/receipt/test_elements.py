"""That the receipt's table tells the truth: every file, name and test in it exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from alexnet.receipt.elements import Element, ablations, read_elements
from benchmarks.receipt import ELEMENTS as LEFT_OUT
from pipelines.recipe import check_network
from pipelines.recipe_yaml import load_recipe

ROOT = Path(__file__).resolve().parents[3]
ELEMENTS = [
    pytest.param(element, id=name)
    for group in read_elements().values()
    for name, element in group.items()
]


@cache
def names_in(path: Path) -> set[str]:
    """What a module defines, methods as `Class.method`; of a recipe its keys, by path."""
    if path.suffix == ".yaml":
        return set(keys_of(yaml.safe_load(path.read_text())))
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            found |= {f"{node.name}.{method.name}" for method in methods}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def keys_of(tree: object, above: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return []
    return [
        path
        for key, value in tree.items()
        for path in (f"{above}{key}", *keys_of(value, f"{above}{key}."))
    ]


def missing(references: tuple[str, ...]) -> list[str]:
    found = []
    for reference in references:
        path, _, name = reference.partition("::")
        if not (ROOT / path).is_file() or name not in names_in(ROOT / path):
            found.append(reference)
    return found


@pytest.mark.parametrize("element", ELEMENTS)
def test_what_is_named_is_there(element: Element) -> None:
    assert missing(element.code) == []
    assert not any(reference.startswith("tests/") for reference in element.code)


@pytest.mark.parametrize("element", ELEMENTS)
def test_the_tests_that_hold_it_exist(element: Element) -> None:
    assert missing(element.tests) == []
    for reference in element.tests:
        assert reference.startswith("tests/")
        assert reference.partition("::")[2].startswith("test_")


@pytest.mark.parametrize(
    "reference",
    [
        "alexnet/model/init.py::NOTHING",
        "alexnet/model/nothing.py::RELEASE",
        "alexnet/train/optimizer.py::MomentumSgd.fly",
        "pipelines/recipes/alexnet-2012.yaml::train.nothing",
    ],
)
def test_what_is_not_there_would_be_noticed(reference: str) -> None:
    assert missing((reference,)) == [reference]


@pytest.mark.parametrize("element", ELEMENTS)
def test_no_effect_is_typed_in(element: Element) -> None:
    """It is measured by an ablation, or says why not where a figure is known."""
    assert element.ablation is None or element.unmeasured is None
    if element.published is not None and element.published.top1_points is not None:
        assert element.ablation is not None


@pytest.mark.parametrize("element", ELEMENTS)
def test_published_points_follow_from_figures_of_named_images(element: Element) -> None:
    published = element.published
    if published is None or published.top1_points is None:
        return
    figures = re.findall(r"(\d\d\.\d\d) / \d\d\.\d\d", published.what)
    if figures:  # "over one point" has none
        without, with_it = map(float, figures)
        assert without - with_it == pytest.approx(published.top1_points, abs=0.011)
        assert re.search("LSVRC-2010|ILSVRC-2012", published.what)


@pytest.mark.parametrize("name", sorted(ablations()))
def test_an_ablation_is_another_training_of_the_receipts_recipe(name: str) -> None:
    settings = ablations()[name].settings
    if not settings:
        assert name == "ten-crops"
        return
    recipe = load_recipe("receipt", settings)
    check_network(recipe)
    assert recipe.digest != load_recipe("receipt").digest


def test_the_ablations_that_change_shapes_are_named_where_pairs_are_said_to_share_a_start() -> None:
    def shapes(settings: tuple[str, ...]) -> dict[str, torch.Size]:
        recipe = load_recipe("receipt", settings)
        with torch.device("meta"):
            network = recipe.model.build(10, recipe.train.augment.crop_px)
        return {name: tensor.shape for name, tensor in network.state_dict().items()}

    changing = {name for name in LEFT_OUT if shapes(ablations()[name].settings) != shapes(())}
    assert changing == {"two-towers", "overlapping-pooling"}
    assert "(two-towers and overlapping-pooling do" in (ROOT / "docs" / "receipt.md").read_text()


def test_no_two_ablations_share_a_name() -> None:
    with_one = [one for group in read_elements().values() for one in group.values() if one.ablation]
    assert len(ablations()) == len(with_one)


def test_the_elements_of_the_issue_are_all_there() -> None:
    asked = {
        "response-norm", "same-map-norm", "overlapping-pooling", "dropout", "colour-noise",
        "ten-crops", "two-towers", "biases-of-one",
    }  # fmt: skip
    assert asked <= ablations().keys()
