"""The Ingestor: brings data in, and removes it for good."""
