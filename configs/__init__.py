"""Typed settings, and the YAML that fills them."""
