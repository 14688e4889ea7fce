"""What a run shows of itself: one HTML page and the terminal."""
