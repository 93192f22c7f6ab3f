"""Agents: their blueprints by name, their versions, opening them, and routing commands to them."""
