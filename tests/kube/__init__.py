"""The API server's side, against a server in this process that a test can edit."""
