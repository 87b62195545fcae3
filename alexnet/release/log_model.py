"""From a trained network to a logged model on MLflow: code, safetensors, signature, no pickles."""

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Final

import alexnet
import infra
import preprocessing
from alexnet.release.package import FILES, write_package
from alexnet.release.registry import global_tracking, translated
from alexnet.trained import TrainedNetwork
from infra.temporary import temporary_folder
from infra.tracking.mlflow_client import open_mlflow_client
from infra.tracking.mlflow_quiet import import_mlflow

_NEEDS: Final = (
    "mlflow", "numpy", "pandas", "pillow", "pyarrow", "pydantic", "safetensors", "simplejpeg",
    "torch",
)  # fmt: skip
"""What predicting imports; the model brings our own code along."""


def log_model(trained: TrainedNetwork, *, tracking_uri: str, run_id: str) -> str:
    """Log a network as a model of the training's run, in its experiment; return its id, "m-…".

    The run's status stays as it is: a finished run is not opened again.

    Raises:
        TrackingError: MLflow cannot be reached, or refuses.
        ServiceError: there is no room for the model's files.
    """
    mlflow = import_mlflow()
    from alexnet.release import pyfunc_model  # after MLflow was imported quietly

    with temporary_folder("alexnet-model-") as folder:
        write_package(trained, folder)
        with (
            translated(tracking_uri),
            global_tracking(tracking_uri),
            # An example would be stored with the model; the trial scores real images instead.
            warnings.catch_warnings(action="ignore", category=UserWarning),
        ):
            # pyfunc.log_model is this call without `run_id`: it would open a run of its own, and
            # without `model_id` either files the model under experiment 0, in ./mlruns.
            client = open_mlflow_client(tracking_uri)
            made = client.create_logged_model(
                client.get_run(run_id).info.experiment_id, name="model", source_run_id=run_id
            )
            mlflow.models.Model.log(
                artifact_path=None,
                flavor=mlflow.pyfunc,
                flavor_name="pyfunc.ModelFromCode",
                model_id=made.model_id,
                run_id=run_id,
                step=trained.step,
                python_model=pyfunc_model.__file__,
                artifacts={name: str(folder / name) for name in FILES},
                code_paths=[str(Path(package.__path__[0])) for package in _PACKAGES],
                signature=pyfunc_model.signature(),
                pip_requirements=requirements(),
            )
    return str(made.model_id)


def requirements() -> list[str]:
    """Pin what predicting needs to the installed versions, without local labels such as +cpu."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in _NEEDS]


_PACKAGES: Final = (alexnet, infra, preprocessing)
