"""Looking without changing: where credentials stand, and which step of an exchange fails."""
