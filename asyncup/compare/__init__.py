"""Rows against the objects that a destination already holds.

index     the listing of a destination, on disk, which any key can be looked up in
verifying a sink that compares instead of sending, and what it has found
existing  sinks for `--if-exists`: they send an object only where that may be, or has to be
"""
