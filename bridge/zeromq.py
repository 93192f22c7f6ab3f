"""ZeroMQ, pyzmq's own. The bridge imports all of it from here, and nowhere `zmq` itself.

Where `iowarp-core` is installed, every Python process loads its libraries at the start, for all to see,
and a ZeroMQ without CURVE is among them: pyzmq would run on that one. Bound to its own, it does not.
"""

import os
import sys

_flags = sys.getdlopenflags()
if "iowarp_core" in sys.modules:
    sys.setdlopenflags(_flags | os.RTLD_DEEPBIND)
try:
    import zmq
    from zmq.auth import CURVE_ALLOW_ANY
    from zmq.auth.asyncio import AsyncioAuthenticator
    from zmq.utils.monitor import recv_monitor_message
finally:
    sys.setdlopenflags(_flags)

__all__ = ["CURVE_ALLOW_ANY", "AsyncioAuthenticator", "recv_monitor_message", "zmq"]
