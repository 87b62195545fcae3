"""Gate, registry, prediction."""
