"""Mechanisms without I/O: each is small, knows nothing of its siblings, and is tested alone."""
