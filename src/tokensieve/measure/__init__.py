"""Models over examples: statistics on disk."""
