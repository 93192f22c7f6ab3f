"""Command routing: which agent a command is for. By rules, by similarity of meaning, or by a model."""
