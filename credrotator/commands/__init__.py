"""One module per command, imported when it is called; each is a small composition root."""
