"""The whole chain on real components; see README.md beside this file."""
