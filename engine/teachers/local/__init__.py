"""Generation in this process through transformers."""
