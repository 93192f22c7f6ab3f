"""Programs that run inside the sandbox, and what they speak with their clients.

Standard library only, and importing nothing of this project from outside this folder: it is all of the
project that the sandbox shows.
"""
