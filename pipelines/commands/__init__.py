"""Commands that stand beside the workflow, one module each; `pipelines.cli` adds them."""
