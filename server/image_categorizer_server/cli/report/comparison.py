"""The report of `models compare`."""

from collections.abc import Sequence
from pathlib import Path

from image_categorizer_server.cli.report.page import (
    Thumbnails,
    bar,
    card,
    name,
    percent,
    section,
    table,
    text,
    write_page,
)
from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.inference.evaluation.comparison import Compared, Flip
from image_categorizer_server.inference.evaluation.metrics import Share

MAX_FLIPS = 120
"""Of each kind."""


def write_comparison(file: Path, compared: Compared, thumbnails: Thumbnails) -> None:
    """Writes the report.

    Raises:
        OperatorError: it cannot be written.
    """
    before, after = compared.before.ref, compared.after.ref
    lost = len(compared.lost)
    body = "\n".join(
        (
            _header(compared),
            _notice(compared),
            _cards(compared),
            _flips(
                '<span class="bad">Right before, wrong now</span>',
                f"{lost} pictures that {_ref(before)} has right and {_ref(after)} has wrong.",
                compared.lost,
                thumbnails,
            ),
            _by_category(compared),
            _flips(
                '<span class="good">Wrong before, right now</span>',
                f"{len(compared.gained)} pictures that only {_ref(after)} has right.",
                compared.gained,
                thumbnails,
            ),
            _flips(
                "Wrong in two ways",
                f"{len(compared.other)} pictures that both have wrong, with different answers.",
                compared.other,
                thumbnails,
            ),
        )
    )
    title = f"{before.name} {before.version} and {after.name} {after.version}: {lost} lost"
    write_page(file, title, body)


def _ref(ref: ModelRef) -> str:
    return f"{name(ref.name)} {ref.version}"


def _header(compared: Compared) -> str:
    before, after = compared.before, compared.after
    return (
        f'<header><p class="eyebrow">Comparison</p><h1>{_ref(before.ref)} and {_ref(after.ref)}'
        f'</h1><p class="meta">{compared.right_before.total} pictures of '
        f"{name(before.dataset.name)}. Models <code>{text(before.ref.digest[:19])}</code> and "
        f"<code>{text(after.ref.digest[:19])}</code>, pictures "
        f"<code>{text(before.dataset_digest[:19])}</code></p></header>"
    )


def _notice(compared: Compared) -> str:
    if not compared.left_out:
        return ""
    return (
        f'<div class="notice"><p>{compared.left_out} pictures are left out: unreadable, or of '
        "categories that neither model has.</p></div>"
    )


def _cards(compared: Compared) -> str:
    before, after = compared.right_before, compared.right_after
    chance = f"equal models flip as unevenly with p = {compared.p_value:.2g}"
    cards = [
        _accuracy(_ref(compared.before.ref), before),
        _accuracy(_ref(compared.after.ref), after),
        card(
            "Lost",
            f'<span class="bad">{len(compared.lost)}</span>',
            "right before, wrong now",
        ),
        card(
            "Gained",
            f'<span class="good">{len(compared.gained)}</span>',
            f"wrong before, right now; {chance}",
        ),
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _accuracy(title: str, share: Share) -> str:
    low, high = share.interval
    note = f"{share.count} of {share.total} right; 95 % interval {low * 100:.1f} to {percent(high)}"
    return card(title, percent(share.value), note, bar(share.value))


def _by_category(compared: Compared) -> str:
    counts = compared.lost_by_category
    if not counts:
        return ""
    most = max(counts.values())
    rows = [(name(label), str(count), bar(count / most)) for label, count in counts.items()]
    return section(
        "Lost by category", "What a promotion policy counts.", table(("category", "lost", ""), rows)
    )


def _flips(title: str, lead: str, flips: Sequence[Flip], thumbnails: Thumbnails) -> str:
    if len(flips) > MAX_FLIPS:
        lead += f" The {MAX_FLIPS} most confident are shown; --json has them all."
    shown = "".join(_flip(flip, thumbnails) for flip in flips[:MAX_FLIPS])
    return section(title, lead, f'<div class="flips">{shown}</div>' if shown else "")


def _flip(flip: Flip, thumbnails: Thumbnails) -> str:
    rows = (
        ("is", name(flip.picture.label), "", ""),
        ("before", *_said(flip.predicted_before, flip.before.confidences[0], flip.before.is_right)),
        ("now", *_said(flip.predicted_after, flip.after.confidences[0], flip.after.is_right)),
    )
    described = "".join(
        f"<dt>{title}</dt><dd{kind}>{answer}{sure}</dd>" for title, answer, sure, kind in rows
    )
    return (
        f'<figure class="picture">{thumbnails.of(flip.picture)}'
        f"<figcaption>{name(flip.picture.name)}</figcaption><dl>{described}</dl></figure>"
    )


def _said(answer: str, confidence: float, is_right: bool) -> tuple[str, str, str]:
    kind = "good" if is_right else "bad"
    return name(answer), f", {percent(confidence, 0)}", f' class="{kind}"'
