"""What is decided, without I/O: data types, rules, ports. Knows no vendor, no cluster and no file."""
