"""Environments for whoever wants to act in them: in this process, or over HTTP."""
