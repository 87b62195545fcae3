"""How the network learns: schedule, update, loop, checkpoint, workers."""
