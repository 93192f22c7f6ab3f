"""From trajectories to a better policy: rewards, advantages, methods, adapters, checkpoints."""
