"""Explain: profiles of base and candidate, and the counter-proof, of what is red."""
