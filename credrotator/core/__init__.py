"""What is decided, without I/O: the nouns, the rules, the ports. Knows no vendor, no cluster and no file."""
