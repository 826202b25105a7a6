"""Accept: how measurements become baselines."""
