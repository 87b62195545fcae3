"""The 2012 receipt: each element of the paper and its source, where it is, and what it is worth."""
