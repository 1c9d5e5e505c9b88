"""The documentation is held to what it says: commands are run, tests that it names exist, versions agree."""
