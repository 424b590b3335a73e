"""Limits of the gateway's connections, so that one address cannot keep the others out.

Envoy counts connections, held and new ones, for each filter chain. So there are several equal
chains, and a hash of a client's address selects one: an address takes at most the connections of
its own chain.
"""

from typing import Any

from image_categorizer_server.settings.gateway import GatewaySettings

INPUT = "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.SourceIPInput"
HASH = (
    "type.googleapis.com/"
    "envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing"
)
LIMIT = "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit"
RATE = "type.googleapis.com/envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit"
TEXT = "type.googleapis.com/google.protobuf.StringValue"


def limit_by_address(listener: dict[str, Any], settings: GatewaySettings) -> None:
    """Replaces the only filter chain of a listener by one for each group of addresses."""
    (chain,) = listener["filter_chains"]
    new = settings.max_new_connections_per_address_per_s
    rate = {
        "name": "envoy.filters.network.local_ratelimit",
        "typed_config": {
            "@type": RATE,
            "stat_prefix": "addresses",
            "token_bucket": {"max_tokens": new, "tokens_per_fill": new, "fill_interval": "1s"},
        },
    }
    limit = {
        "name": "envoy.filters.network.connection_limit",
        "typed_config": {
            "@type": LIMIT,
            "stat_prefix": "addresses",
            "max_connections": settings.max_connections_per_address,
        },
    }
    groups = range(settings.address_groups)
    filters = [rate, limit, *chain["filters"]]
    listener["filter_chains"] = [
        {**chain, "name": _name(group), "filters": filters} for group in groups
    ]
    # The hash, modulo the number of groups, is at least that of the first group that matches.
    listener["filter_chain_matcher"] = {
        "matcher_list": {
            "matchers": [
                {"predicate": _at_least(group, len(groups)), "on_match": _chain(group)}
                for group in reversed(groups[1:])
            ]
        },
        "on_no_match": _chain(0),
    }


def _name(group: int) -> str:
    return f"addresses-{group}"


def _chain(group: int) -> dict[str, Any]:
    action = {"name": "chain", "typed_config": {"@type": TEXT, "value": _name(group)}}
    return {"action": action}


def _at_least(group: int, groups: int) -> dict[str, Any]:
    hashing = {"@type": HASH, "threshold": group, "modulo": groups}
    return {
        "single_predicate": {
            "input": {"name": "source_ip", "typed_config": {"@type": INPUT}},
            "custom_match": {"name": "hash", "typed_config": hashing},
        }
    }
