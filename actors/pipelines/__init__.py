"""Pipelines: from a checked file to a graph of steps that run, each as soon as it can."""
