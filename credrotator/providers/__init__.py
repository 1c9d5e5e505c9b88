"""One package per provider: what it is by itself (pure), and its exchange (the SDK's adapter)."""
