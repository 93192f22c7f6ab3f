"""The Retriever: gives data out, from the cache where it can."""
