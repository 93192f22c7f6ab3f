"""The `logic` domain."""
