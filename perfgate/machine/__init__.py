"""The machine: GPUs, CPU, memory, telemetry, leases."""
