"""Issuer and vendors: the only modules that know one. Each maps its vendor's errors to ours at its own border."""
