"""Archives → a committed dataset."""
