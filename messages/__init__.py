"""What actors say to one another: frozen pydantic models, and nothing else."""
