"""Shapes: what a model is made of, layer by layer: tensors, caches, formats, splits."""
