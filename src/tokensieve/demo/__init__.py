"""The embedded demo: a tiny language model, its world, and data with planted noise."""
