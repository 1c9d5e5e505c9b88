"""The command line: one module for each command, tables, colours, progress, completion."""
