"""Placement groups: what a run needs of a cluster, set aside at once, or not at all.

Without them a run that needs more GPUs than are free would start some of its engines, hold their GPUs, and
wait for the others.
"""

from collections.abc import Sequence

import ray
from ray.util import placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ..errors import TransportError
from ..transport import PlacementBundle, Resources


class PlacementGroups:
    """The groups of one system. Its methods block."""

    def __init__(self) -> None:
        self._groups: dict[str, PlacementGroup] = {}

    def reserve(self, name: str, parts: Sequence[Resources], timeout_s: float) -> tuple[PlacementBundle, ...]:
        """A place for each part, as close to one another as they fit. Raises TransportError."""
        if name in self._groups:
            raise TransportError(f"{name!r} is set aside already")
        bundles = [_bundle(part) for part in parts]
        group = placement_group(bundles, strategy="PACK")
        if not group.wait(timeout_s):
            remove_placement_group(group)
            raise TransportError(
                f"the cluster has no room for {name}: it needs {_listing(bundles)} and has "
                f"{_shown(ray.cluster_resources())}, of which {_shown(ray.available_resources())} are free "
                f"after {timeout_s:g} s; end other jobs, add a node, or ask for less"
            )
        self._groups[name] = group
        return tuple(PlacementBundle(name, index) for index in range(len(parts)))

    def strategy(self, place: PlacementBundle | None) -> PlacementGroupSchedulingStrategy | None:
        """How Ray is told of a place."""
        if place is None:
            return None
        return PlacementGroupSchedulingStrategy(
            placement_group=self._groups[place.group], placement_group_bundle_index=place.part
        )

    def release(self) -> None:
        """Give everything back."""
        for group in self._groups.values():
            remove_placement_group(group)
        self._groups.clear()


def _bundle(part: Resources) -> dict[str, float]:
    asked = {"CPU": part.cpus, "GPU": part.gpus, **part.node_resources}
    return {name: amount for name, amount in asked.items() if amount}


def _listing(bundles: Sequence[dict[str, float]]) -> str:
    return " + ".join(_shown(bundle) for bundle in bundles)


def _shown(resources: dict[str, float]) -> str:
    """Processors and GPUs, and whatever else was asked for by name."""
    counted = {
        name: amount
        for name, amount in resources.items()
        if not name.startswith(("node:", "memory", "object_store_memory", "accelerator_type", "bundle_"))
        and "_group_" not in name
    }
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(counted.items())) or "nothing"
