"""jobs: say what is in here."""
