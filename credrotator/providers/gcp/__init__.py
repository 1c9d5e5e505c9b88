"""Google Cloud: workload identity federation, or a service account's key."""
