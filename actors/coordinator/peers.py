"""Refs to the actors that the Coordinator works with."""

from typing import NamedTuple

from ...runtime.engines.base import AdapterStoreFactory
from ...runtime.ref import PoolRef, Ref
from ...runtime.topics import Topics
from ..namespaces import DataAccess


class ActorRefs(NamedTuple):
    """Refs to the other roles."""

    engines: PoolRef
    teacher: Ref
    students: PoolRef
    verifier: Ref
    sink: Ref
    trainer: Ref
    topics: Topics
    open_adapter_store: AdapterStoreFactory | None = None
    """Where the Trainer puts adapters and the engines fetch them; None where messages carry them."""
    data: DataAccess | None = None
    """For tasks of the `data` domain; None where there are none."""
