"""Strict YAML → Recipe: shipped or a file, with overrides; errors name line and nearest key."""

import difflib
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from infra.errors import RecipeError
from pipelines.recipe import Recipe, check_recipe
from pipelines.recipe_mistakes import explain

_SHIPPED = "pipelines.recipes"
_TEXT_TAG, _MERGE_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_DATE_TAG = "tag:yaml.org,2002:timestamp"
_NULLS = ("null", "~")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but 1e-4 is a number, a date text, and keys text, each once."""


# No setting is a date, and PyYAML fails at what looks like one: 2024-30-11.
_Loader.yaml_implicit_resolvers = {
    letter: [resolver for resolver in resolvers if resolver[0] != _DATE_TAG]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if key.tag not in (_TEXT_TAG, _MERGE_TAG):
            raise _not_understood("a key is no text; put it in quotes", key)
        if key.value in seen:
            raise _not_understood(f"{key.value!r} stands twice", key)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


def _not_understood(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)


def shipped_recipes() -> list[str]:
    """List the names of the recipes that come with the package."""
    folder = resources.files(_SHIPPED)
    return sorted(
        path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")
    )


def slug_of(folder: str) -> str:
    """Return a name for the dataset of a folder: small letters, digits and hyphens, at most 64."""
    slug = re.sub(r"[^a-z0-9]+", "-", Path(folder).name.lower()).strip("-")
    return slug[:64].strip("-") or "images"


def recipe_text(name_or_file: str) -> str:
    """Read a recipe's YAML: a shipped one by name, or a file.

    Raises:
        RecipeError: there is neither.
    """
    if name_or_file in shipped_recipes():
        return resources.files(_SHIPPED).joinpath(f"{name_or_file}.yaml").read_text("utf-8")
    if name_or_file.endswith((".yaml", ".yml")) or "/" in name_or_file:
        try:
            return Path(name_or_file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise RecipeError(
                f"recipe file {name_or_file} cannot be read: {reason}",
                remedy="check the path, or name a shipped recipe: " + ", ".join(shipped_recipes()),
            ) from error
    near = difflib.get_close_matches(name_or_file, shipped_recipes(), n=1)
    raise RecipeError(
        f"there is no recipe {name_or_file!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        remedy=f"name one of {', '.join(shipped_recipes())}, or a .yaml file",
    )


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply `key.path=value` overrides, and check everything.

    Raises:
        RecipeError: no such recipe, bad YAML, an unknown key, a wrong type or value, or an
            impossible combination.
    """
    text = recipe_text(name_or_file)
    tree = _parse(text, name_or_file)
    for override in overrides:
        _apply(tree, override)
    try:
        recipe = _validate(tree, overrides)
    except ValidationError as error:
        raise explain(error, text, name_or_file, overrides) from None
    check_recipe(recipe)
    return recipe


def _validate(tree: dict[str, Any], overrides: Sequence[str]) -> Recipe:
    """Validate; what --set gave for a text is taken as it was typed, be it digits or `no`."""
    try:
        return Recipe.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        typed = dict(override.split("=", 1) for override in overrides)
        texts = [d for d in error.errors() if d["type"] == "string_type"]
        paths = {".".join(map(str, detail["loc"])) for detail in texts} & typed.keys()
        if not paths:
            raise
        for path in paths:
            _apply(tree, f"{path}={json.dumps(typed[path])}")
        return Recipe.model_validate_json(json.dumps(tree))


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        tree = _loaded(text)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(
            f"{source} is not valid YAML: {_problem_of(error)}", remedy="mend the file"
        ) from error
    if not isinstance(tree, dict):
        raise RecipeError(
            f"{source} is no recipe: it holds no keys",
            remedy="start from a shipped one: `alexnet recipes show demo`",
        )
    return tree


def _loaded(text: str) -> Any:  # noqa: ANN401 - YAML is any value
    """Read YAML; what it names twice (`&a`, `*a`) is there twice, for --set to change one of."""
    return json.loads(json.dumps(yaml.load(text, Loader=_Loader), default=str))


def _problem_of(error: yaml.YAMLError | ValueError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(error)
    mark = error.problem_mark
    return f"{error.problem}" + (f" (line {mark.line + 1})" if mark else "")


def _apply(tree: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise RecipeError(
            f"--set {override!r} is not key.path=value",
            remedy="write for example --set train.epochs=10",
        )
    try:
        value = _loaded(text)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(
            f"--set {path}: {text!r} is not a YAML value", remedy="quote it"
        ) from error
    if value is None and text.strip().lower() not in _NULLS:
        # Often a variable of the shell that is not set.
        raise RecipeError(
            f"--set {path}= says no value",
            remedy=f"write {path}=null for none, {path}='\"\"' for an empty text, or leave it out",
        )
    inner: Any = tree
    for depth, key in enumerate(keys[:-1]):
        inner = _descend(inner, key, ".".join(keys[: depth + 1]))
    if isinstance(inner, list):
        _descend(inner, keys[-1], path)
        inner[int(keys[-1])] = value
    else:
        inner[keys[-1]] = value


def _descend(inner: Any, key: str, path: str) -> Any:  # noqa: ANN401 - YAML is any value
    if isinstance(inner, list):
        if not key.isdigit() or int(key) >= len(inner):
            raise RecipeError(
                f"--set {path}: the list has elements 0 to {len(inner) - 1}",
                remedy="name one of them by its number",
            )
        return inner[int(key)]
    if not isinstance(inner.get(key), (dict, list)):
        inner[key] = {}
    return inner[key]
