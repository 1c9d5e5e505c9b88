"""Reading without changing: the state of credentials, and which step of an exchange fails."""
