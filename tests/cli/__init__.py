"""The command line, against the sandbox."""
