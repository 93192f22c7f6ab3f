"""terminal: say what is in here."""
