"""The page, the server and notebooks."""
