"""Supervisor: a process that outlives the run and ends its servers. Standard library only."""
