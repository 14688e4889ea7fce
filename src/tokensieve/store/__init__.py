"""What is on disk: shards, manifests with checksums, and fingerprints."""
