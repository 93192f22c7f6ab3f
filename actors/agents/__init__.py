"""Agents that act on the data plane: by rules, by a model, by a trained adapter; and their sessions."""
