"""The cache tier in front of the store."""
