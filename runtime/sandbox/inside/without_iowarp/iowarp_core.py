"""Stands for `iowarp-core` in the sandbox, where nothing may be loaded or written for it."""
