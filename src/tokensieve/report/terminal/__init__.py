"""Runs, examples and comparisons in the terminal."""
