"""Integer counts on the validation split, whoever did the work."""
