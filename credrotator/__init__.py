"""credrotator keeps the cloud credentials of an Envoy AI Gateway fresh."""

__version__ = "0.2.0"
