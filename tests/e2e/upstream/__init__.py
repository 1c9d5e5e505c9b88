"""The backend behind the gateway: it verifies what it is sent and remembers it."""
