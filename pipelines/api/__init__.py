"""What the commands do, for Python: the same work, returned instead of printed.

Heavy libraries are imported when a function needs them, as on the command line.
"""

from pipelines.api.datasets import check_storage, clean, estimate, reap_runs, repair, verify
from pipelines.api.inference import features, figures, predict, similar, submission
from pipelines.api.models import export, validate
from pipelines.api.runs import check_gradients, compare_runs, ensemble, inspect, list_runs
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
    "reap_runs",
    "repair",
    "run",
    "similar",
    "submission",
    "validate",
    "verify",
]
