"""Run data: what one run measured, and its file."""
