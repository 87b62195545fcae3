"""The receipt of a registration."""

from typing import Literal

from infra.commit import Frozen, parse_receipt


class Registration(Frozen):
    """What a registration made; aliases as they were then, they may move on."""

    schema_version: Literal[1] = 1
    key: str
    model_name: str
    version: str
    model_uri: str
    """"models:/alexnet/3"."""
    aliases: tuple[str, ...]
    registry_id: str
    """Which registry, wherever it is moved."""


def parse_registration(body: bytes, where: str) -> Registration:
    """Read what `to_bytes` wrote at a place; ObjectCorrupt for anything else."""
    return parse_receipt(
        Registration, body, where, remedy="delete the registration's folder and run again"
    )
