"""`python -m agentfactory` is the command line."""

from .cli.__init__ import main

if __name__ == "__main__":
    raise SystemExit(main())
