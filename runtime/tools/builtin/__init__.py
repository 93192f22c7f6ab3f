"""builtin: say what is in here."""
