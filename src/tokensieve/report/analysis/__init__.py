"""What the page and the terminal show, as figures."""
