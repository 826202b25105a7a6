"""Models: architectures, catalogue, weights, arithmetic."""
