"""Parsers of the calls and answers in a model's text."""
