"""The `code` domain."""
