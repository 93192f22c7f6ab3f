"""agents: say what is in here."""
