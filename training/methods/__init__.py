"""Training methods: each turns groups into samples, and log-probabilities into a loss."""
