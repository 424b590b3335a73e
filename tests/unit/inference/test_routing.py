"""Which version answers, given the aliases and the versions that are READY."""

import pytest
from image_categorizer_server.inference.models.aliases import Aliases
from image_categorizer_server.inference.models.routing import Route, in_force, route_of


@pytest.mark.parametrize(
    ("versions", "percent", "ready", "route"),
    [
        ({}, 0, set(), Route(None)),
        ({}, 0, {1, 2}, Route(2)),
        ({"stable": 1}, 0, {1, 2}, Route(1)),
        ({"stable": 3}, 0, {1, 2}, Route(None)),
        ({"stable": 1, "canary": 2}, 10, {1, 2}, Route(1, 2, 10)),
        ({"stable": 1, "canary": 2}, 10, {1}, Route(1)),
        ({"stable": 1, "canary": 2}, 0, {1, 2}, Route(1)),
        ({"stable": 1, "canary": 1}, 10, {1, 2}, Route(1)),
        ({"canary": 2}, 10, {1, 2}, Route(1, 2, 10)),
        ({"canary": 2}, 10, {2}, Route(2)),
    ],
)
def test_aliases_decide_where_requests_without_a_version_go(versions, percent, ready, route):
    assert route_of(Aliases(versions=versions, canary_percent=percent), ready) == route


@pytest.mark.parametrize(
    ("versions", "percent", "ready", "route"),
    [
        ({"fast": 2}, 0, {1, 2}, Route(1)),
        ({"fast": 2}, 0, {1, 2, 3}, Route(3)),
        ({"fast": 2}, 0, {2}, Route(None)),
        ({"fast": 2, "stable": 2}, 0, {1, 2}, Route(2)),
        ({"fast": 2, "canary": 2}, 10, {1, 2}, Route(1, 2, 10)),
        ({"fast": 2, "canary": 1}, 10, {1, 2}, Route(1)),
    ],
)
def test_a_version_on_request_is_never_the_newest(versions, percent, ready, route):
    aliases = Aliases(versions=versions, canary_percent=percent, on_request=(2,))
    assert route_of(aliases, ready) == route
    assert route_of(in_force(aliases, Aliases(), ready), ready) == route


@pytest.mark.parametrize(
    ("wanted", "current", "ready", "followed"),
    [
        ({"stable": 2}, {"stable": 1}, {1, 2}, {"stable": 2}),
        ({"stable": 2}, {"stable": 1}, {1}, {"stable": 1}),
        ({"stable": 2}, {"stable": 1}, set(), {"stable": 2}),
        ({"stable": 2}, {}, {1}, {}),
        ({"stable": 2}, {}, set(), {"stable": 2}),
        ({"stable": 2}, {"stable": 2}, {1}, {"stable": 2}),
        ({}, {"stable": 1}, {1}, {}),
    ],
)
def test_an_alias_keeps_its_version_until_the_new_one_is_ready(wanted, current, ready, followed):
    assert in_force(Aliases(versions=wanted), Aliases(versions=current), ready).versions == followed


def test_a_canary_keeps_its_share_until_the_new_one_is_ready():
    before = Aliases(versions={"canary": 2}, canary_percent=10)
    wanted = Aliases(versions={"canary": 3}, canary_percent=50)
    assert in_force(wanted, before, {1, 2}) == before
    assert in_force(wanted, before, {1, 2, 3}) == wanted
