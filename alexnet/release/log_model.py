"""From a trained network to a logged model on MLflow: code, safetensors, signature, no pickles."""

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Final

import alexnet
import infra
import preprocessing
from alexnet.release.package import FILES, write_package
from alexnet.release.registry import KEY_TAG, global_tracking, translated
from alexnet.trained import TrainedNetwork
from infra.temporary import temporary_folder
from infra.tracking.mlflow_client import open_mlflow_client
from infra.tracking.mlflow_quiet import import_mlflow

_NEEDS: Final = (
    "mlflow", "numpy", "pandas", "pillow", "pyarrow", "pydantic", "safetensors", "simplejpeg",
    "torch",
)  # fmt: skip
"""What predicting imports; the model brings our own code along."""


def log_model(trained: TrainedNetwork, *, tracking_uri: str, run_id: str, key: str) -> str:
    """Log a network as a model of the training's run, in its experiment; return its id, "m-…".

    The run's status stays as it is: a finished run is not opened again. A model that an earlier
    try of the same registration logged is taken: each is as large as the weights.

    Args:
        trained: the network.
        tracking_uri: MLflow's.
        run_id: the training's run there.
        key: the registration's; a tag of the model, once that is whole.

    Raises:
        TrackingError: MLflow cannot be reached, or refuses.
        ServiceError: there is no room for the model's files.
    """
    with translated(tracking_uri):
        client = open_mlflow_client(tracking_uri)
        experiment_id = client.get_run(run_id).info.experiment_id
        found = client.search_logged_models(
            [experiment_id],
            filter_string=f"tags.`{KEY_TAG}` = '{key}' AND source_run_id = '{run_id}'",
            max_results=1,
        )
        if found:
            return str(found[0].model_id)
        made = client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
    _log_files(trained, made.model_id, tracking_uri=tracking_uri, run_id=run_id)
    with translated(tracking_uri):
        # Last: a kill before leaves a model in parts, which nobody shall find.
        client.set_logged_model_tags(made.model_id, {KEY_TAG: key})
    return str(made.model_id)


def delete_model(model_id: str, *, tracking_uri: str) -> None:
    """Delete a logged model; its files go with the server's next `mlflow gc`.

    Raises:
        TrackingError: MLflow cannot be reached, or refuses.
    """
    with translated(tracking_uri):
        open_mlflow_client(tracking_uri).delete_logged_model(model_id)


def _log_files(trained: TrainedNetwork, model_id: str, *, tracking_uri: str, run_id: str) -> None:
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
            mlflow.models.Model.log(
                artifact_path=None,
                flavor=mlflow.pyfunc,
                flavor_name="pyfunc.ModelFromCode",
                model_id=model_id,
                run_id=run_id,
                step=trained.step,
                python_model=pyfunc_model.__file__,
                artifacts={name: str(folder / name) for name in FILES},
                code_paths=[str(Path(package.__path__[0])) for package in _PACKAGES],
                signature=pyfunc_model.signature(),
                pip_requirements=requirements(),
            )


def requirements() -> list[str]:
    """Pin what predicting needs to the installed versions, without local labels such as +cpu."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in _NEEDS]


_PACKAGES: Final = (alexnet, infra, preprocessing)
