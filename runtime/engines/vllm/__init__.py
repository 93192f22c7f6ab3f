"""vllm: say what is in here."""
