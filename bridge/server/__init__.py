"""The bridge server: one process that owns the store and answers on one ZeroMQ socket."""
