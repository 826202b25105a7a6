"""Probes: what is read beside the load on one launch."""
