"""Numerics: pure functions on arrays and tensors; no models, no files."""
