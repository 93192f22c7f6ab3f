"""The Coordinator: leases, staleness, curriculum, rounds, recovery."""
