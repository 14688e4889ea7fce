"""Which method and fraction pay on some data, or that none does: what is tried, what is kept, how it is confirmed."""
