"""Durable stores of named blobs."""
