"""Inference engines behind one interface. Importing this package, or `base` and `chat`, imports no torch."""
