from collections import Counter

import pytest

from agentfactory.bridge.cache.servers import Rendezvous

KEYS = [f"iowarp:tag-{number % 7}:blob-{number}".encode() for number in range(20_000)]
NAMES = [f"10.0.0.{number}:11211" for number in range(1, 6)]


def homes(names: list[str]) -> list[str]:
    rendezvous = Rendezvous(names)
    return [names[rendezvous.home(key)] for key in KEYS]


def test_every_server_has_its_share() -> None:
    shares = Counter(homes(NAMES))
    fair = len(KEYS) / len(NAMES)
    assert all(0.95 * fair < shares[name] < 1.05 * fair for name in NAMES)


@pytest.mark.parametrize("leaving", NAMES)
def test_a_server_that_leaves_moves_only_its_own_keys(leaving: str) -> None:
    before = homes(NAMES)
    after = homes([name for name in NAMES if name != leaving])
    assert all(old == new for old, new in zip(before, after, strict=True) if old != leaving)


@pytest.mark.parametrize("servers", range(1, 8))
def test_a_server_that_joins_takes_its_share_and_moves_nothing_else(servers: int) -> None:
    names = [f"cache-{number}:11211" for number in range(servers)]
    before, after = homes(names), homes([*names, "new:11211"])
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"new:11211"}
    assert 0.9 < len(moved) * (servers + 1) / len(KEYS) < 1.1


def test_the_order_in_which_servers_are_named_does_not_matter() -> None:
    assert homes(NAMES) == homes(NAMES[::-1])
