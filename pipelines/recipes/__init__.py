"""The recipes shipped, as YAML."""
