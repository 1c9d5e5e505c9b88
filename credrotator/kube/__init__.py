"""The API server's side: policies and Secrets as Kubernetes objects.

Owns requests, list and watch, the Lease and Events; the only group of modules that imports ``kubernetes``, and that
only to read a kubeconfig. Must not know a vendor, nor decide what is due.
"""
