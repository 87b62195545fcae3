"""Gate and registry: what becomes of an evaluated network."""
