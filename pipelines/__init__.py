"""What runs in which order; the only place that wires things together.

The names of `pipelines.api`, what the commands do, are here too. They load on first use, so that
the command line can say what is wrong before torch is there.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.api import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        # Not `from pipelines import api`: that asks this function for `api`.
        api = import_module("pipelines.api")
        if name == "__all__":
            return api.__all__
        if name not in api.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(api, name)


def __dir__() -> list[str]:
    return list(import_module("pipelines.api").__all__)
