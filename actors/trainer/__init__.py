"""The Trainer: from groups to the next version."""
