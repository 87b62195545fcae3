"""The published contract of a dataset: all that other packages may import."""
