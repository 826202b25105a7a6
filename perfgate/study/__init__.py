"""Study: models, servers, workloads and platforms as data."""
