"""``python -m credrotator``."""

from credrotator.cli.main import main

main()
