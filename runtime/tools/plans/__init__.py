"""plans: say what is in here."""
