"""How far reviewers agree, beyond what chance explains."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from image_categorizer_server.domain.review import Agreement, ReviewerPair, Vote

MAX_PAIRS = 50
Votes = Mapping[str, Mapping[str, str]]
"""By result and reviewer: the category."""


def agreement_of(votes: Sequence[Vote]) -> Agreement:
    """Returns the agreement of reviewers about the results that two or more have judged."""
    by_result: dict[str, dict[str, str]] = defaultdict(dict)
    for vote in votes:
        by_result[vote.result_id][vote.reviewer] = vote.category
    shared = {result_id: said for result_id, said in by_result.items() if len(said) > 1}
    reviewers = {reviewer for said in shared.values() for reviewer in said}
    observed, kappa = fleiss([list(said.values()) for said in shared.values()])
    return Agreement(len(shared), len(reviewers), observed, kappa, _pairs(shared))


def fleiss(results: Sequence[Sequence[str]]) -> tuple[float | None, float | None]:
    """Returns the observed agreement, and Fleiss' kappa (1971).

    Each result counts once, however many reviewers it has: with as many for each, it is Fleiss'.

    Args:
        results: the categories that reviewers say, two or more for each result.
    """
    if not results:
        return None, None
    observed, shares = 0.0, Counter[str]()
    for said in results:
        counts, size = Counter(said), len(said)
        observed += sum(n * (n - 1) for n in counts.values()) / (size * (size - 1))
        shares.update({category: n / size for category, n in counts.items()})
    observed /= len(results)
    return observed, _kappa(observed, sum((s / len(results)) ** 2 for s in shares.values()))


def cohen(both: Sequence[tuple[str, str]]) -> tuple[float, float | None]:
    """Returns the observed agreement of two reviewers, and Cohen's kappa (1960).

    Args:
        both: what the two say of each result, one at least.
    """
    observed = sum(one == other for one, other in both) / len(both)
    first, second = (Counter(said) for said in zip(*both, strict=True))
    chance = sum(first[category] * second[category] for category in first) / len(both) ** 2
    return observed, _kappa(observed, chance)


def _kappa(observed: float, chance: float) -> float | None:
    # Shares are sums of fractions, so those of one category may differ from 1 in the last bits.
    return None if chance > 1 - 1e-9 else (observed - chance) / (1 - chance)


def _pairs(shared: Votes) -> tuple[ReviewerPair, ...]:
    common: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for said in shared.values():
        for one, other in combinations(sorted(said), 2):
            common[one, other].append((said[one], said[other]))
    largest = sorted(common, key=lambda pair: (-len(common[pair]), pair))[:MAX_PAIRS]
    return tuple(ReviewerPair(*pair, len(common[pair]), *cohen(common[pair])) for pair in largest)
