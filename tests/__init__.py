"""The tests of credrotator."""
