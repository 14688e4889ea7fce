"""Fine-tuning on the tokens that were kept."""
