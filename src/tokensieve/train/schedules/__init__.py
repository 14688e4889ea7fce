"""How scoring and training take turns."""
