"""Fleet: one study over many machines, on Ray; each launch is a session on one host."""
