"""Issuer and vendors, exercised against the sandbox's servers: what goes over the wire, and what failures become."""
