"""The eight roles."""
