"""vLLM as an engine: requests, adapters and the life of its processes."""
