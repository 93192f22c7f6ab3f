"""Modules that every Python of the sandbox finds before the installed packages."""
