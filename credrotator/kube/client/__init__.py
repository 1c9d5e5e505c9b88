"""A client for the API server: requests, list and watch, the Lease. Knows nothing of credrotator."""
