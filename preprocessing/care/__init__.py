"""Looking after datasets: is one whole, make it whole, remove leftovers."""
