"""Bisect: which build of an engine made it slower, by pairs of launches."""
