"""Without a cluster: manifests in, a directory of Secrets and rendered templates out."""
