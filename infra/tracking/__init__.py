"""One MLflow run a training, true through failures."""
