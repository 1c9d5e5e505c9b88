"""The daemon, its parts, and what it does in a cluster."""
