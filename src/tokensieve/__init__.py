"""Choose, token by token, what a language model is fine-tuned on."""
