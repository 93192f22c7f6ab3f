"""Sandboxes for text that a model wrote: Python calls, programs, sessions, and the files of a workspace."""
