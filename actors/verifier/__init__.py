"""The Verifier: who judges."""
