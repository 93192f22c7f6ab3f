"""The store on IOWarp: its runtime, a client in a process of its own, and the chunk store on top."""
