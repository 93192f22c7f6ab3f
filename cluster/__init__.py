"""Launch, placement, data plane and servers: where and how the system runs."""
