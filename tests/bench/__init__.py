"""``make bench``: credrotator and the gateway's own rotator at the same work, against the same servers."""
