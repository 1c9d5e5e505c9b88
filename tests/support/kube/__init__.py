"""A simulated API server."""
