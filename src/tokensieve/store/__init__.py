"""What is on disk: Parquet shards, manifests and fingerprints."""
