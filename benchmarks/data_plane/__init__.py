"""Measurements of the data plane."""
