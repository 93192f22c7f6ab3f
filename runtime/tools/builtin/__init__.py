"""The tools that ship, one a module."""
