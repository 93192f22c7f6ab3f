"""mcp: say what is in here."""
