"""What an actor lives in: mailbox, refs, supervision, topics, two transports, engines, tools."""
