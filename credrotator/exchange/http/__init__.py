"""HTTP for issuers and vendors: transport, circuit breakers, shared requests, deadline, clock."""
