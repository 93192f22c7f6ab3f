"""Work in a checkout that no wheel holds: `python -m scripts.seed_model` makes the seed model."""
