"""Strict YAML → Recipe: shipped or a file, with overrides; errors name line and nearest key."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infra.errors import RecipeError
from pipelines.recipe import Recipe, check_recipe

Path_ = tuple[str | int, ...]
_SHIPPED = "pipelines.recipes"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, except that 1e-4 is a number and a key may stand only once."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    repeated = [key for key in keys if keys.count(key) > 1]
    if repeated:
        raise yaml.constructor.ConstructorError(
            None, None, f"{repeated[0]!r} stands twice", node.start_mark
        )
    return loader.construct_mapping(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)


def shipped_recipes() -> list[str]:
    """List the names of the recipes that come with the package."""
    folder = resources.files(_SHIPPED)
    return sorted(
        path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")
    )


def slug_of(folder: str) -> str:
    """Return a name for the dataset of a folder: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", Path(folder).name.lower()).strip("-") or "images"


def recipe_text(name_or_file: str) -> str:
    """Read a recipe's YAML: a shipped one by name, or a file.

    Raises:
        RecipeError: there is neither.
    """
    if name_or_file in shipped_recipes():
        return resources.files(_SHIPPED).joinpath(f"{name_or_file}.yaml").read_text()
    if name_or_file.endswith((".yaml", ".yml")) or "/" in name_or_file:
        try:
            return Path(name_or_file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                f"recipe file {name_or_file} cannot be read: {error}",
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
        raise _explained(error, tree, text, name_or_file) from None
    check_recipe(recipe)
    return recipe


def _validate(tree: dict[str, Any], overrides: Sequence[str]) -> Recipe:
    """Validate; what --set gave for a text is taken as it was typed, be it digits or `no`."""
    try:
        return Recipe.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        typed = dict(override.split("=", 1) for override in overrides)
        texts = [d for d in error.errors() if d["type"] == "string_type"]
        paths = {".".join(map(str, detail["loc"])) for detail in texts} & typed.keys()
        if not paths:
            raise
        for path in paths:
            _apply(tree, f"{path}={json.dumps(typed[path])}")
        return Recipe.model_validate_json(json.dumps(tree, default=str))


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        tree = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{source} is not valid YAML: {error}", remedy="mend the file") from error
    if not isinstance(tree, dict):
        raise RecipeError(
            f"{source} is no recipe: it holds no keys",
            remedy="start from a shipped one: `alexnet recipes show demo`",
        )
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise RecipeError(
            f"--set {override!r} is not key.path=value",
            remedy="write for example --set train.epochs=10",
        )
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(
            f"--set {path}: {text!r} is not a YAML value", remedy="quote it"
        ) from error
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


def _explained(
    error: ValidationError, tree: Mapping[str, Any], text: str, source: str
) -> RecipeError:
    """Turn pydantic's list into sentences, one a mistake, with the place of each."""
    sentences = dict.fromkeys(_sentence(detail, tree, text, source) for detail in error.errors())
    return RecipeError(
        "; ".join(sentences),
        remedy="`alexnet recipes show NAME` prints every key with its value",
    )


def _sentence(detail: ErrorDetails, tree: Mapping[str, Any], text: str, source: str) -> str:
    path = _path_in(tree, detail["loc"], missing=detail["type"] == "missing")
    name = ".".join(map(str, path)) or "the recipe"
    line = _line_of(text, path)
    place = f" ({source}, line {line})" if line else ""
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), _known_keys(path[:-1]), n=1)
        hint = f"; did you mean {'.'.join(map(str, (*path[:-1], near[0])))}?" if near else ""
        return f"unknown key {name}{hint}{place}"
    if detail["type"] == "missing":
        return f"{name} is missing{place}"
    given = f", not {detail['input']!r}" if not isinstance(detail["input"], (dict, list)) else ""
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{name} {message}{given}{place}"


def _path_in(tree: Mapping[str, Any], loc: Path_, *, missing: bool) -> Path_:
    """Keep of pydantic's location what is in the recipe: it also names the unions it tried."""
    path: list[str | int] = []
    here: Any = tree
    for part in loc:
        inside = (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        if inside:
            path.append(part)
            here = here[part]
    if missing:
        path.append(loc[-1])
    return tuple(path)


def _line_of(text: str, path: Path_) -> int | None:
    """Find the line that a key of the file stands in; none for what --set added."""
    node = yaml.compose(text, Loader=_Loader)
    line = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(value, value) for value in node.value[part : part + 1]]
        else:
            found = []
        if not found:
            return None
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line


def _known_keys(path: Path_) -> list[str]:
    """List the keys that a place of the recipe may have, from the models' own JSON schema."""
    schema = Recipe.model_json_schema()
    places = [schema]
    for part in path:
        if isinstance(part, str):
            places = [
                _resolved(schema, p["properties"][part])
                for p in places
                if part in p.get("properties", {})
            ]
        places = [inner for place in places for inner in _alternatives(schema, place)]
    return sorted({key for place in places for key in place.get("properties", {})})


def _alternatives(schema: dict[str, Any], place: dict[str, Any]) -> list[dict[str, Any]]:
    options = place.get("anyOf") or place.get("oneOf")
    if options:
        return [p for o in options for p in _alternatives(schema, _resolved(schema, o))]
    if "items" in place:
        return _alternatives(schema, _resolved(schema, place["items"]))
    return [place]


def _resolved(schema: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    reference = place.get("$ref")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else place
