"""The `math` domain."""
