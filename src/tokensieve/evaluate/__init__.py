"""Figures of fine-tuned models: held-out loss, exact match, lm-evaluation-harness tasks."""
