"""Rotating: one policy, one batch, and the daemon with its queue and timetable."""
