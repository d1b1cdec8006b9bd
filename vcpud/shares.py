"""Where weight counts per vCPU and cannot be set: whom fewer vCPUs cost share, and how many do not.

Problem: on a host without a cgroup for each guest a vCPU thread is what is weighed. Whoever gives up
vCPUs alone gives up share with them, and no weight makes up for it. Those who share a pool, though,
lose nothing where all give up the same part: shares are w n / sum of w n.

Approach: a domain's share is compared with what it would be if everybody still had the vCPUs that it
came with, as if all contended: who is idle now may not be in a minute. A shrink is cut to as many
vCPUs as leave nobody short. Growing alone would take from those who are shrunk, so who grows grows
with all of them, and so they do when somebody comes whom nobody has shrunk.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vcpud.model import DomainSample, ShareUnit, Uuid

KEPT_RATIO = 0.97
"""Of its share, that a domain must be left."""
QUIET_RATIO = 0.05
"""Of a pool, that unmanaged work may use: its threads are weighed against those of guests, too."""


def loose(sample: DomainSample) -> bool:
    """Whether its share is that of its vCPUs, and nothing can make up for fewer."""
    return sample.share_unit is ShareUnit.VCPU and not sample.weight_adjustable


def pools(samples: Iterable[DomainSample], unmanaged: Mapping[str, float]) -> dict[str, Pool]:
    """The pools in which all are weighed by the vCPU, and nobody else is to be reckoned with.

    Args:
        samples: All domains.
        unmanaged: What of each pool unmanaged work uses.
    """
    found: dict[str, list[DomainSample]] = {}
    for sample in samples:
        found.setdefault(sample.pool, []).append(sample)
    return {
        name: Pool(
            {one.uuid: float(one.weight) for one in members},
            {one.uuid: len(one.active) for one in members},
        )
        for name, members in found.items()
        if all(map(loose, members)) and unmanaged.get(name, 1.0) <= QUIET_RATIO
    }


class Pool:
    """Domains whose vCPUs are weighed against one another.

    Attributes:
        weights: Of a vCPU of each.
        active: vCPUs that each has.
    """

    def __init__(self, weights: Mapping[Uuid, float], active: Mapping[Uuid, int]) -> None:
        self.weights = weights
        self.active = active

    def short(self, counts: Mapping[Uuid, int], homes: Mapping[Uuid, int]) -> dict[Uuid, float]:
        """What is left of the shares of those who would be left too little.

        Args:
            counts: Active vCPUs, of those for whom they differ from what there are.
            homes: What those came with who have been changed.
        """
        had = now = 0.0
        parts = {}
        for uuid, weight in self.weights.items():
            active = self.active[uuid]
            count, home = counts.get(uuid, active), max(homes.get(uuid, active), 1)
            parts[uuid] = count / home
            had += weight * home
            now += weight * count
        left = now / had if had > 0 else 1.0
        return {uuid: part / left for uuid, part in parts.items() if part < KEPT_RATIO * left}

    def fitting(
        self, asked: Mapping[Uuid, int], most: Mapping[Uuid, int], homes: Mapping[Uuid, int]
    ) -> dict[Uuid, int] | None:
        """As few vCPUs as asked for, or as leave nobody short; None where no number does.

        Args:
            asked: Of some.
            most: So many of each of them are tried.
            homes: As in `short`.
        """
        counts = dict(asked)
        while short := self.short(counts, homes):
            those = [uuid for uuid in short if uuid in counts and counts[uuid] < most[uuid]]
            if not those:
                return None
            counts[min(those, key=lambda uuid: (short[uuid], uuid))] += 1
        return counts

    def shrunk(self, homes: Mapping[Uuid, int]) -> dict[Uuid, int]:
        """What all those came with who have less."""
        return {
            uuid: homes[uuid]
            for uuid, active in self.active.items()
            if active < homes.get(uuid, 0)
        }
