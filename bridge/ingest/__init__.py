"""ingest: say what is in here."""
