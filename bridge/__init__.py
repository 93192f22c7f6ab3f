"""The way to stored bytes."""
