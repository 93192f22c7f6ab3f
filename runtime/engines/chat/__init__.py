"""chat: say what is in here."""
