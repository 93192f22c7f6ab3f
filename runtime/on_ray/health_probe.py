"""The child of `health_check`: `python health_probe.py ADDRESS CONNECT_TIMEOUT_S`.

Prints its steps as lines of JSON. It imports nothing of this project, so that it runs from wherever
Python is.
"""

import json
import os
import socket
import sys


def _main(address: str, connect_timeout_s: float) -> None:
    from ray._private import services
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    try:
        resolved = services.canonicalize_bootstrap_address(address) or ""
        host, port = services.extract_ip_port(resolved)
    except Exception as error:  # Ray raises ValueError, ConnectionError, bare Exception, …
        wrong = f"it is not HOST:PORT ({_first_line(error).rstrip('.')})"
        _say("failed", "no Ray runs on this machine" if address == "auto" else wrong)
        return
    _say("connecting", resolved)
    try:
        socket.create_connection((host, port), timeout=connect_timeout_s).close()
    except OSError as error:
        _say("failed", f"nobody listens at {resolved} ({error.strerror or error})")
        return
    _say("asking", resolved)
    try:
        GcsClient(address=resolved)
    except Exception as error:
        refused = (
            "the cluster asks for a token: set RAY_AUTH_MODE=token here, too, with the token that it has"
        )
        reason = refused if "AuthToken" in str(error) else _first_line(error).rstrip(".")
        _say("failed", f"no Ray answers at {resolved} ({reason})")
    else:
        _say("answered", resolved)


def _say(step: str, detail: str) -> None:
    print(json.dumps([step, detail]), flush=True)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


if __name__ == "__main__":
    _main(sys.argv[1], float(sys.argv[2]))
    os._exit(0)  # without waiting for Ray's threads
