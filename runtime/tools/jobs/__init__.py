"""Jobs of tools that run in forks of a warm process, and the client that has them run."""
