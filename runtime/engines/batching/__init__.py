"""batching: say what is in here."""
