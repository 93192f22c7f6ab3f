"""Tools that a policy may call, and how its calls are read from its text."""
