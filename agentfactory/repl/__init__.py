"""The prompt at which a person talks to an agent; the same commands from a pipe, and one by one."""
