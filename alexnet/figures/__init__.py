"""Pictures of a network and of its training: what to draw is decided apart from the drawing."""
