"""OIDC issuers: which are allowed, how each is reached, and the client-credentials flow."""
