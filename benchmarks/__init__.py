"""How fast it is, and beside what: each rate is measured in turn with the one it is compared to.

`python -m benchmarks.run` from the checkout; docs/how-to/benchmarks.md says what each one does.
"""
