"""The receipt of a registration."""

from typing import Literal

from pydantic import ValidationError

from infra.canonical import canonical_json
from infra.commit import Frozen
from infra.errors import DataError


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

    def to_bytes(self) -> bytes:
        """Write as canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))


def parse_registration(body: bytes) -> Registration:
    """Read what `to_bytes` wrote; DataError for anything else."""
    try:
        return Registration.model_validate_json(body)
    except ValidationError as error:
        raise DataError(
            f"this is not a registration this version reads: {error}",
            remedy="delete the registration's folder and run again",
        ) from error
