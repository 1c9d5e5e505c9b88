"""``python -m credrotator``."""

from credrotator.cli import main

main()
