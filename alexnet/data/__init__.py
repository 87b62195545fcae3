"""The order of samples, and how they reach the network."""
