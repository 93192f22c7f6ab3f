"""backends: say what is in here."""
