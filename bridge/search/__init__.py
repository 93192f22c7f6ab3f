"""Passage search: chunking, embedding, indexing, ranking."""
