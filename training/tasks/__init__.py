"""Families of tasks that can be generated, checked and split without a model."""
