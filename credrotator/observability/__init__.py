"""What the outside sees: metrics, health, logs, audit records, traces, and nothing secret in them."""
