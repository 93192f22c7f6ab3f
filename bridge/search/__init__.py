"""Passages of stored texts: cut, embedded, indexed, and found again."""
