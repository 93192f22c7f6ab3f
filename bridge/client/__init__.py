"""client: say what is in here."""
