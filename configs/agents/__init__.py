"""Settings of agents: blueprints, versions, evaluations and pipelines."""
