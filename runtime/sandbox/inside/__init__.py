"""inside: say what is in here."""
