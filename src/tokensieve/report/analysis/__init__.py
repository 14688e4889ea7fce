"""The data that the page and the terminal show."""
