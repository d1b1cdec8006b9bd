"""What a domain may come to have: the vCPUs it came with, whatever its maximum is and whatever was taken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unit.loop.test_tracks import domain, fold, host
from vcpud.model import DomainSample, HostSample, Original, Pool, ShareUnit, Terms
from vcpud.tracks import Tracks, estimate


def original(online: int, *, live: int = 8, weight: int | None = None) -> Original:
    return Original(
        boot_id="b",
        uuid="u",
        name="n",
        incarnation="1@1",
        online=frozenset(range(online)),
        live_vcpus=live,
        weight=weight,
    )


def roomy(online: int, **more: object) -> DomainSample:
    """Defined with eight vCPUs, so many of them online; as it was first seen it wants all it may."""
    words = {"live_vcpus": 8, "max_vcpus": 8, "online": frozenset(range(online)), **more}
    return domain(0, 0, 0.0, **words)


def crowded(*domains: DomainSample, pcpus: int = 8) -> HostSample:
    return replace(host(0, *domains), pools=(Pool(name="host", pcpus=pcpus),))


@pytest.mark.parametrize(
    ("online", "had", "most"),
    [
        (1, None, 1),  # it came with one, and nobody ever gave it more
        (3, None, 3),  # its owner has given it two more
        (1, 4, 4),  # vcpud has taken three
        (6, 4, 6),  # its owner has given it more than it came with
        (8, 9, 8),  # no more than its own maximum
        (0, None, 1),  # a guest that denies it all: the first cannot go offline
    ],
)
def test_who_came_with_fewer_vcpus_than_its_maximum_is_entitled_to_no_more_than_those(
    online: int, had: int | None, most: int
) -> None:
    neighbour = roomy(8, uuid="v")
    originals = {} if had is None else {"u": original(had)}
    _, demand = estimate(Tracks(), crowded(roomy(online), neighbour, pcpus=12), originals)
    own, other = demand.domains
    assert (own.max_vcpus, own.home_vcpus, own.active_vcpus) == (most, had, online)
    assert own.entitled_pcpus == min(most, 6.0)
    assert other.entitled_pcpus == min(12.0 - min(most, 6.0), 8.0)


@pytest.mark.parametrize(
    ("limits", "most", "ceiling"),
    [
        ({"terms": Terms(max_vcpus=3)}, 3, 3.0),
        ({"quota_pcpus_per_vcpu": 0.5}, 4, 2.0),
        ({"cap_pcpus": 1.5}, 4, 1.5),
        ({"cap_pcpus": 6.0}, 4, 4.0),
    ],
)
def test_what_its_owner_lets_it_use_is_counted_on_the_vcpus_it_came_with(
    limits: dict[str, object], most: int, ceiling: float
) -> None:
    sample = crowded(roomy(1, **limits))
    _, demand = estimate(Tracks(), sample, {"u": original(4)})
    assert demand.domains[0].max_vcpus == most
    assert demand.domains[0].ceiling_pcpus == demand.domains[0].entitled_pcpus == ceiling


@pytest.mark.parametrize(
    ("online", "weight", "had", "weighs"),
    [
        (2, 100, None, 200),
        (2, 100, original(8), 800),
        (2, 400, original(8, weight=100), 800),
        (8, 400, original(8, weight=100), 800),  # on its way: the weight comes first or last
        (8, 100, original(4), 800),
    ],
)
def test_where_weight_counts_per_vcpu_a_domain_weighs_what_those_it_came_with_do(
    online: int, weight: int, had: Original | None, weighs: int
) -> None:
    sample = crowded(roomy(online, share_unit=ShareUnit.VCPU, weight=weight))
    _, demand = estimate(Tracks(), sample, {} if had is None else {"u": had})
    assert demand.domains[0].weight == weighs


def test_what_is_owed_counts_at_once_though_nothing_new_was_read() -> None:
    sample = crowded(roomy(1))
    tracks, bare = estimate(Tracks(), sample)
    tracks, owed = estimate(tracks, sample, {"u": original(4)})
    tracks, settled = estimate(tracks, sample)
    assert [d.domains[0].max_vcpus for d in (bare, owed, settled)] == [1, 4, 1]
    assert [d.domains[0].entitled_pcpus for d in (bare, owed, settled)] == [1.0, 4.0, 1.0]


def test_where_weight_counts_per_vcpu_a_domain_weighs_what_all_of_them_do() -> None:
    two = domain(0, 0, uuid="two", share_unit=ShareUnit.VCPU, weight=100)
    one = replace(two, uuid="one", online=frozenset({0}))
    whole = replace(two, uuid="whole", share_unit=ShareUnit.DOMAIN)
    _, demand = fold(host(0, two, one, whole))
    assert [d.weight for d in demand.domains] == [200, 100, 100]  # type: ignore[attr-defined]


def test_a_floor_above_what_it_came_with_asks_for_no_more() -> None:
    _, demand = estimate(Tracks(), crowded(roomy(2, terms=Terms(min_vcpus=4))))
    assert (demand.domains[0].min_vcpus, demand.domains[0].max_vcpus) == (2, 2)
