"""What workspaces hold: found by its name, described, compared."""
