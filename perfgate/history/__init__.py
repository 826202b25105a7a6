"""History: metrics over the runs."""
