"""What a person types: one module per command, tables, colours, progress, completion."""
