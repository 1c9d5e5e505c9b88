"""The steps of ``check``, its advice, and what it prints."""
