"""Where and how the system runs."""
