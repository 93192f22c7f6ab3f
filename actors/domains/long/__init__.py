"""The `long` domain."""
