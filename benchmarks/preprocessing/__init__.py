"""Making a dataset: how fast, and what kills leave of it.

`speed`, `kills` and `scaled_decoding` are commands; docs/how-to/benchmarks.md says what each
one does.
"""
