"""How much new work may begin: bounded staleness as one formula.

    capacity = min(max_concurrent − running, (η + version + 1)·B − (accepted + running))

over groups, where `accepted` counts all groups accepted since version 0 (AReaL, section 5.1). A group
that begins now belongs to batch number `(accepted + running) // B` at the latest, so it is trained on
by version `version + η` and is never more than η versions old. At η = 0 nothing begins before the
next version is there: exactly on-policy.
"""

from ...configs.roles import LoopSettings


def capacity(settings: LoopSettings, version: int, ready: int, running: int, sampled: int) -> int:
    """Groups that may begin now.

    Args:
        settings: the loop's.
        version: of the student's policy.
        ready: groups accepted and not yet trained on.
        running: groups leased and unfinished.
        sampled: groups finished since the last step, whatever their fate.

    >>> capacity(LoopSettings(batch_groups=4, max_staleness=0), version=0, ready=1, running=1, sampled=1)
    2
    """
    batch = settings.batch_groups
    accepted = version * batch + ready
    newest_batch = min(settings.max_staleness + version + 1, settings.rounds)
    room = min(
        settings.max_concurrent_groups - running,
        newest_batch * batch - (accepted + running),
        settings.max_groups_per_step * (1 + settings.max_staleness) - (sampled + running),
    )
    return max(0, room)
