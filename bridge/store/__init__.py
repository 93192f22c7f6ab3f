"""Stores: where blobs lie for good."""
