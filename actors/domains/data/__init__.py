"""The `data` domain."""
