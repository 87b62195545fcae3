"""The six steps of the workflow, and the graph that they form."""
