"""The composition root: settings, the backends, the process."""
