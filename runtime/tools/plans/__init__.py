"""Plans: tool calls that build upon one another, parsed and carried out."""
