"""Routing: which agent a command is for. By rules, by likeness of meaning, or by a model."""
