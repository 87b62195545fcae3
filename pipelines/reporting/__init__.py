"""What a report shows: read from the workspace, drawn, written as one page."""
