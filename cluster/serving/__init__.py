"""Models behind HTTP, in OpenAI's language: what `agentfactory serve` runs."""
