"""Pipelines: from a checked file to steps that run, each as soon as it can."""
