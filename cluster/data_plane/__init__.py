"""The data plane: its background processes, and the tiers as every process reaches them."""
