"""`python -m agentfactory` is the command line."""

from agentfactory.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
