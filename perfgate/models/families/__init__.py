"""Families: one reader for each group of model families."""
