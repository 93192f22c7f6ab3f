"""calls: say what is in here."""
