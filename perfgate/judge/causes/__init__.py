"""Causes: from the changes of a run's rows to who lost, in which phase, and why."""
