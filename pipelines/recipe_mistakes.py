"""What is wrong with a recipe, in sentences: which key, what it should be, and where it stands."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infra.errors import RecipeError
from pipelines.recipe import Recipe

Path_ = tuple[str | int, ...]
Schema = dict[str, Any]

_SHOULD: Final = {
    "model_type": "should hold keys",
    "dict_type": "should hold keys",
    "tuple_type": "should be a list",
    "union_tag_not_found": "is missing",
}
_OTHER_TYPE: Final = ("int_type", "int_from_float", "float_type", "string_type", "model_type")


def explain(
    error: ValidationError, text: str, source: str, overrides: Sequence[str]
) -> RecipeError:
    """Turn pydantic's list into one error, a sentence for each mistake.

    Args:
        error: what validating a recipe gave.
        text: the YAML it was read from, for line numbers.
        source: the file or the shipped recipe's name.
        overrides: `key.path=value`, as given to --set.
    """
    mistakes = _told_once([_mistake(detail) for detail in error.errors()])
    given = [tuple(override.partition("=")[0].split(".")) for override in overrides]
    sentences = dict.fromkeys(m.text + _origin(m.path, text, source, given) for m in mistakes)
    return RecipeError(
        "; ".join(sentences), remedy="`alexnet recipes show NAME` prints every key with its value"
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a recipe pydantic's location points to; that one also names the unions it tried."""

    path: Path_
    keys: tuple[str, ...]
    """Known keys that may stand there instead of the last of the path."""
    union: Path_ | None
    """The innermost key that may hold one of several types."""


@dataclass(frozen=True, slots=True)
class _Mistake:
    path: Path_
    text: str
    union: Path_ | None
    is_other_type: bool
    """Whether the value is none of the type that was tried, of several that are allowed."""


def _mistake(detail: ErrorDetails) -> _Mistake:
    place = _locate(detail["loc"])
    path, kind = place.path, detail["type"]
    if kind.startswith("union_tag"):
        path = (*path, detail["ctx"]["discriminator"].strip("'"))
    is_other_type = path == place.union and kind in _OTHER_TYPE
    name = ".".join(map(str, path)) or "the recipe"
    return _Mistake(path, _sentence(name, place, detail), place.union, is_other_type)


def _sentence(name: str, place: _Place, detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(place.path[-1]), place.keys, n=1)
        nearest = ".".join(map(str, (*place.path[:-1], *near)))
        return f"unknown key {name}" + (f"; did you mean {nearest}?" if near else "")
    if kind in ("missing", "union_tag_not_found"):
        return f"{name} is missing"
    if kind == "union_tag_invalid":
        context = detail["ctx"]
        return f"{name} should be one of {context['expected_tags']}, not {context['tag']!r}"
    if kind == "value_error":
        return f"{name}: {detail['msg'].removeprefix('Value error, ')}"
    if kind == "too_short":
        return f"{name} should not be empty"
    return f"{name} {_wanted(detail)}{_given(detail['input'])}"


def _wanted(detail: ErrorDetails) -> str:
    return _SHOULD.get(detail["type"], detail["msg"].removeprefix("Input ").removeprefix("String "))


def _given(value: object) -> str:
    if isinstance(value, (dict, list)):
        return ""
    return f", not {value!r}" if isinstance(value, str) else f", not {json.dumps(value)}"


def _told_once(mistakes: Sequence[_Mistake]) -> list[_Mistake]:
    """Of a value that fits none of several types, say so once, or what is wrong with the nearest.

    The nearest is the one that the value is at least of the type of.
    """
    near = {mistake.union for mistake in mistakes if not mistake.is_other_type}
    told: dict[Path_, _Mistake] = {}
    for mistake in mistakes:
        if not mistake.is_other_type:
            told[(*mistake.path, mistake.text)] = mistake
        elif mistake.union not in near:
            told[mistake.path] = _either(told.get(mistake.path), mistake)
    return list(told.values())


def _either(before: _Mistake | None, mistake: _Mistake) -> _Mistake:
    if before is None:
        return mistake
    wanted, _, given = before.text.partition(", not ")
    other = mistake.text.partition(", not ")[0].partition(" should ")[2]
    text = f"{wanted} or {other}" + (f", not {given}" if given else "")
    return _Mistake(mistake.path, text, mistake.union, is_other_type=True)


def _origin(path: Path_, text: str, source: str, given: Iterable[Path_]) -> str:
    names = tuple(map(str, path))
    if any(names[: len(keys)] == keys for keys in given):
        return " (--set)"
    line = _line_of(text, path)
    if line is None:
        return " (--set)" if any(keys[: len(names)] == names for keys in given) else ""
    return f" ({source}, line {line})"


def _line_of(text: str, path: Path_) -> int | None:
    """Find the line of a key, or of what should hold it when it is missing."""
    node, line = yaml.compose(text, Loader=yaml.SafeLoader), None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(value, value) for value in node.value[part : part + 1]]
        else:
            found = []
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line


def _locate(loc: Path_) -> _Place:
    """Follow a location through the models' own JSON schema."""
    schema = Recipe.model_json_schema()
    here, path, union, keys = schema, list[str | int](), None, tuple[str, ...]()
    for part in loc:
        variants = _variants(schema, here)
        if len(variants) > 1:
            # Where several types are allowed, the next part names the one that was tried.
            union, here = tuple(path), variants.get(str(part), {})
            continue
        here = next(iter(variants.values()), {})
        keys = tuple(here.get("properties", {}))
        here = _resolved(schema, _inner(here, part))
        path.append(part)
    return _Place(tuple(path), keys, union)


def _variants(schema: Schema, place: Schema) -> dict[str, Schema]:
    if "discriminator" in place:
        tags = place["discriminator"]["mapping"]
        return {tag: _resolved(schema, {"$ref": reference}) for tag, reference in tags.items()}
    options = [option for option in place.get("anyOf", [place]) if option.get("type") != "null"]
    return {
        option.get("$ref", "").rpartition("/")[2]: _resolved(schema, option) for option in options
    }


def _inner(place: Schema, part: str | int) -> Schema:
    inner: Schema = (
        place.get("properties", {}).get(part)
        or place.get("items")
        or place.get("additionalProperties")
        or {}
    )
    return inner


def _resolved(schema: Schema, place: Schema) -> Schema:
    reference: str | None = place.get("$ref")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else place
