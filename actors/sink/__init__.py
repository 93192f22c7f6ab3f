"""The TrajectorySink: makes trajectories durable."""
