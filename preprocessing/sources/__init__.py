"""Where images come from: each source, read in place, becomes one index of members."""
