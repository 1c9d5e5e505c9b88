"""Rotating one policy or a batch of them, and the daemon with its queue and timetable."""
