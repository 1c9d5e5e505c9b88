"""The store that is a directory of Secrets, as the kubelet lays them out."""
