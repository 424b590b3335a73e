"""Header fields that say what is left of the limits.

The two structured fields of draft-ietf-httpapi-ratelimit-headers (revision 10 and later):

    RateLimit-Policy: "tenant";q=20;w=2, "images";q=1000;w=86400;qu="images"
    RateLimit: "tenant";r=19;t=1, "images";r=998;t=30512

`q` units are allowed in `w` seconds; `r` are left, and all of them are there again after `t`
seconds.  Where a limit refuses a call, its `t` equals `Retry-After`.  The fields cannot stand in
trailers, so they are in the initial metadata of a call that succeeds.
"""

import math

from image_categorizer_server.domain.limit import DailyQuota, Decision, Rate

Fields = tuple[tuple[str, str], ...]


def limit_fields(decision: Decision) -> Fields:
    """Returns the header fields."""
    policies, limits = [], []
    for standing in decision.standings:
        limit = standing.limit
        is_refusing = limit == decision.refused_by
        after_s = decision.retry_after_s if is_refusing else standing.reset_s
        policies.append(_policy(limit))
        limits.append(f'"{limit.name}";r={standing.remaining};t={math.ceil(after_s)}')
    return ("ratelimit-policy", ", ".join(policies)), ("ratelimit", ", ".join(limits))


def _policy(limit: Rate | DailyQuota) -> str:
    unit = ';qu="images"' if isinstance(limit, DailyQuota) else ""
    return f'"{limit.name}";q={limit.quota};w={limit.window_s}{unit}'
