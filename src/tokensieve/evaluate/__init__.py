"""Results of fine-tuned models: held-out loss, exact match, unwanted texts, corrected answers, tasks of the harness."""
