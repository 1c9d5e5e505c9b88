"""Nothing lost: invariants, faults, security, on real processes and over a long time."""
