"""The Helm chart: its values, and what it renders."""
