"""Run folders: what is in them, and what they say."""
