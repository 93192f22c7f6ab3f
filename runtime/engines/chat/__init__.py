"""Conversations as tokens and back: chat templates, function calls, incremental decoding."""
