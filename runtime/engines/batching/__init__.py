"""Continuous batching on transformers: the engine of small machines. Needs torch."""
