"""Views at a terminal: a run and a pipeline while they go on, and tables."""
