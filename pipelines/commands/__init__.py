"""Commands beside the workflow, one module each; `options` and `interruptible` serve all."""
