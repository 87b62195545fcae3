"""A resolved recipe as MLflow compares it: dotted keys and texts."""

from typing import Any

import yaml


def flat_parameters(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten a resolved recipe to dotted keys, as MLflow compares parameters."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flat_parameters(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = (
                value
                if isinstance(value, str)
                else yaml.safe_dump(value, default_flow_style=True)
                .strip()
                .removesuffix("...")
                .strip()
            )
    return flat
