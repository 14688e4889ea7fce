"""Rules over any number of shards, and the cleaned data that comes of them."""
