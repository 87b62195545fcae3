"""What the commands do, for Python: the same work, returned instead of printed.

Heavy libraries are imported when a function needs them, as on the command line.
"""

from pipelines.api.asking import features, figures, predict, similar, submission
from pipelines.api.caring import check_storage, clean, estimate, repair, verify
from pipelines.api.looking import check_gradients, compare_runs, ensemble, inspect, list_runs
from pipelines.api.models import export, validate
from pipelines.api.workflow import load_recipe, run

__all__ = [
    "check_gradients",
    "check_storage",
    "clean",
    "compare_runs",
    "ensemble",
    "estimate",
    "export",
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
    "validate",
    "verify",
]
