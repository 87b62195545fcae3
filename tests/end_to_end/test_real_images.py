"""Real ImageNet files through the whole workflow, few steps."""

from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
import pytest
from end_to_end_tools import Cli

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]

TRUNCATED = "n03417042_5824.JPEG"
FEW_STEPS = (
    "prepare.rows_per_shard=512",
    "prepare.stored_px=72",
    "train.augment.crop_px=64",
    "train.epochs=1",
    "train.global_batch=512",
    "model.width=0.125",
    "gate.min_top1=0",
)


def test_imagenet_files_become_a_registered_model(shared_data: Path, tmp_path: Path) -> None:
    mini = shared_data / "ilsvrc-mini"
    cli = Cli(tmp_path / "workspace", (*FEW_STEPS, f"dataset.archives={mini}"))
    refused = cli.run("run", "demo")
    assert refused.code == 3, refused.err
    assert TRUNCATED in refused.document["error"]["message"]
    assert not cli.has("datasets/*/manifest.json")

    document = cli.run_well("run", "demo", settings=["prepare.max_rejects=1"])
    assert document["train"]["count"] == 4999
    assert document["val"]["count"] == document["count"] == 500
    assert [reject["member"] for reject in document["rejects"]] == [TRUNCATED]
    assert document["global_step"] == 10

    shard = sorted(cli.workspace.glob("datasets/*/val/*.parquet"))[0]
    jpegs = [row["bytes"] for row in pq.read_table(shard)["image"].to_pylist()[:4]]
    mlflow.set_tracking_uri(f"sqlite:///{cli.workspace}/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/alexnet@champion")
    answers = model.predict(pd.DataFrame({"image": jpegs}))
    assert set(answers["wnid"]) <= {"n01440764", "n02102040", "n02979186", "n03000684",
                                    "n03028079", "n03394916", "n03417042", "n03425413",
                                    "n03445777", "n03888257"}  # fmt: skip
    assert answers["probability"].between(0, 1).all()
