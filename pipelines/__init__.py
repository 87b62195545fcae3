"""What runs in which order; the only place that wires things together.

The names below are what the commands do, for Python. They load on first use, so that the command
line can say what is wrong before torch is there.
"""

from typing import TYPE_CHECKING

__all__ = [
    "check_gradients",
    "check_storage",
    "clean",
    "compare_runs",
    "ensemble",
    "estimate",
    "features",
    "figures",
    "inspect",
    "list_runs",
    "load_recipe",
    "predict",
    "repair",
    "run",
    "similar",
    "submission",
    "verify",
]

if TYPE_CHECKING:
    from pipelines.api import (
        check_gradients,
        check_storage,
        clean,
        compare_runs,
        ensemble,
        estimate,
        features,
        figures,
        inspect,
        list_runs,
        load_recipe,
        predict,
        repair,
        run,
        similar,
        submission,
        verify,
    )
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pipelines import api

        return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
