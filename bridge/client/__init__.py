"""The client of the bridge, and what is built on it: streams, a remote cache, the tiered store."""
