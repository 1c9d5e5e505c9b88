"""Metrics, health, logs, audit records and traces, with nothing secret in them."""
