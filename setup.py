"""What a wheel holds: the rooms at the top of the repository become subpackages of `agentfactory`."""

from setuptools import find_packages, setup

ROOMS = ("messages", "configs", "runtime", "training", "bridge", "actors", "cluster")


def packages_in(room: str) -> list[str]:
    """The packages of a room, by the names that they are installed under."""
    return [f"agentfactory.{room}", *(f"agentfactory.{room}.{name}" for name in find_packages(room))]


setup(
    packages=[
        "agentfactory",
        *(f"agentfactory.{name}" for name in find_packages("agentfactory")),
        *(name for room in ROOMS for name in packages_in(room)),
    ],
    package_dir={f"agentfactory.{room}": room for room in ROOMS},
)
