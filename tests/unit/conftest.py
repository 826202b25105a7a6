"""Unit tests must hold on a machine whose cores are all taken by others."""

from hypothesis import HealthCheck, settings

# Other work may take the machine in the middle of an example.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
