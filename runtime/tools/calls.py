"""Reads the calls, or the answer, out of a policy's reply, in whichever form it wrote them."""

from runtime.tools.react import Reply, find_boxed, parse_reply

__all__ = ["Reply", "find_boxed", "parse_reply"]
