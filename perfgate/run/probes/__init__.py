"""Probes: what is read of a server besides its load, on one launch."""
