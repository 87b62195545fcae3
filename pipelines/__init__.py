"""What runs in which order; the only place that wires things together."""
