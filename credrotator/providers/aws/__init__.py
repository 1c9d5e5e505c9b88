"""Amazon Web Services: STS by web identity."""
