"""Runs text that a model wrote, in processes that can do nothing but compute."""
