"""Models of transformers: loading, head, attention, and every private touch of that library."""
