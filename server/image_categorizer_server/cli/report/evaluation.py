"""The report of `evaluate`."""

from pathlib import Path

from image_categorizer_server.cli.report.charts import coverage_chart, reliability_diagram
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
from image_categorizer_server.inference.evaluation.answers import Answered
from image_categorizer_server.inference.evaluation.metrics import (
    BINS,
    CategoryFigures,
    Confusion,
    Coverage,
    Evaluation,
    Share,
    coverage_curve,
)

MAX_PAIRS = 60
MAX_EXAMPLES = 4
MAX_FILES = 200
MAX_OPEN_ROWS = 25
MARKED = (0.5, 0.8, 0.95)


def write_evaluation(file: Path, evaluation: Evaluation, thumbnails: Thumbnails) -> None:
    """Writes the report.

    Raises:
        OperatorError: it cannot be written.
    """
    ref = evaluation.answers.ref
    body = "\n".join(
        (
            _header(evaluation),
            _notice(evaluation),
            _cards(evaluation),
            _charts(evaluation),
            _groups(evaluation),
            _confusions(evaluation, thumbnails),
            _categories(evaluation),
            _coverage(evaluation),
            left_out(evaluation),
        )
    )
    write_page(file, f"{ref.name} {ref.version}: {evaluation.top_1.value:.1%} top-1", body)


def interval(share: Share) -> str:
    """Returns the 95 % interval of a share, such as `82.6 to 92.5 %`."""
    low, high = share.interval
    return f"{low * 100:.1f} to {percent(high)}"


def _header(evaluation: Evaluation) -> str:
    answers = evaluation.answers
    return (
        f'<header><p class="eyebrow">Evaluation</p><h1>{name(answers.ref.name)}, '
        f"version {answers.ref.version}</h1>"
        f'<p class="meta">{evaluation.top_1.total} pictures of {name(answers.dataset.name)}. '
        f"Model <code>{text(answers.ref.digest[:19])}</code>, "
        f"pictures <code>{text(answers.dataset_digest[:19])}</code></p></header>"
    )


def _notice(evaluation: Evaluation) -> str:
    sentences = left_out_sentences(evaluation)
    if not sentences:
        return ""
    return f'<div class="notice"><p>{" ".join(map(text, sentences))}</p></div>'


def left_out_sentences(evaluation: Evaluation) -> list[str]:
    """Returns what the figures leave out, as text."""
    answers, sentences = evaluation.answers, []
    if count := len(answers.unreadable):
        are = "picture is" if count == 1 else "pictures are"
        sentences.append(f"{count} {are} unreadable and left out.")
    if count := len(answers.unknown):
        are = "picture is" if count == 1 else "pictures are"
        labels = list(evaluation.unknown_labels)
        shown = ", ".join(label or "(none)" for label in labels[:5])
        more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
        sentences.append(
            f"{count} {are} of categories that the model does not have ({shown}{more}) and left "
            f"out. Counted as wrong, top-1 is {evaluation.top_1_of_all.value:.1%}."
        )
    if count := len(answers.dataset.ignored):
        are = "file is" if count == 1 else "files are"
        sentences.append(f"{count} {are} hidden or in no category's folder, and left out.")
    return sentences


def _cards(evaluation: Evaluation) -> str:
    top_1, top_5 = evaluation.top_1, evaluation.top_5
    cards = [
        card(
            "Top-1",
            percent(top_1.value),
            f"{top_1.count} of {top_1.total}; 95 % interval {interval(top_1)}",
            bar(top_1.value),
        )
    ]
    if top_5:
        cards.append(
            card(
                "Top-5",
                percent(top_5.value),
                f"{top_5.count} of {top_5.total}; 95 % interval {interval(top_5)}",
                bar(top_5.value),
            )
        )
    cards += [
        card(
            "Calibration error (ECE)",
            f"{evaluation.calibration.ece:.3f}",
            f"{evaluation.calibration.ece_by_chance:.3f} is best on so many pictures: answers are "
            f"right as often as their confidence says; {BINS} bins",
            bar(min(evaluation.calibration.ece, 1.0)),
        ),
        card(
            "Speed",
            f"{evaluation.answers.images_per_s:.0f}/s",
            "pictures decoded and classified on the machine that made this report",
        ),
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _charts(evaluation: Evaluation) -> str:
    marked = [each for each in evaluation.coverage if each.threshold in MARKED]
    curve = coverage_curve(evaluation.answers.known)
    return (
        f'<div class="charts"><figure>{reliability_diagram(evaluation.calibration)}'
        "<figcaption><b>Reliability.</b> Each column is how often answers of that confidence are "
        "right; the line in it is the confidence they state. Columns above their line are too "
        "modest, below it too sure. Below: how many answers there are.</figcaption></figure>"
        f"<figure>{coverage_chart(curve, marked)}"
        "<figcaption><b>Coverage against precision.</b> If answers below a confidence are not "
        "given, fewer pictures are answered, and more of the answers are right."
        "</figcaption></figure></div><p></p>"
    )


def _groups(evaluation: Evaluation) -> str:
    if not evaluation.calibration_by_group:
        return ""
    lead = (
        "The first category of an answer decides its group, and so the temperature of its "
        "confidences."
    )
    head = ("group", "temperature", "answers", "ECE", "", "by chance")
    rows = (
        (
            name(group),
            f"{evaluation.answers.temperatures[group]:g}",
            str(each.count),
            f"{each.ece:.3f}",
            bar(min(each.ece, 1.0)),
            f"{each.ece_by_chance:.3f}",
        )
        for group, each in evaluation.calibration_by_group.items()
    )
    return section("Calibration of groups", lead, table(head, rows))


def _confusions(evaluation: Evaluation, thumbnails: Thumbnails) -> str:
    pairs = evaluation.confusions
    if not pairs:
        return section("Confusions", "Every answer is right.", "")
    lead = f"{sum(len(pair.pictures) for pair in pairs)} wrong answers, the most frequent first."
    if len(pairs) > MAX_PAIRS:
        lead += f" {len(pairs) - MAX_PAIRS} more pairs are not shown; --json has them all."
    shown = "".join(_pair(pair, thumbnails) for pair in pairs[:MAX_PAIRS])
    return section("Confusions", lead, f'<div class="pairs">{shown}</div>')


def _pair(pair: Confusion, thumbnails: Thumbnails) -> str:
    count = len(pair.pictures)
    examples = "".join(_example(each, thumbnails) for each in pair.pictures[:MAX_EXAMPLES])
    return (
        f'<div class="pair"><p><b>{name(pair.category)}</b> taken for '
        f'<b class="bad">{name(pair.predicted)}</b></p>'
        f'<p class="count">{count} picture{"" if count == 1 else "s"}</p>'
        f'<div class="pictures">{examples}</div></div>'
    )


def _example(answered: Answered, thumbnails: Thumbnails) -> str:
    return (
        f'<figure class="picture">{thumbnails.of(answered.picture)}'
        f"<figcaption>{name(answered.picture.name)}<br>"
        f"{percent(answered.confidences[0], 0)} sure</figcaption></figure>"
    )


def _categories(evaluation: Evaluation) -> str:
    head = ("category", "pictures", "recall", "", "95 % interval", "answers", "precision", "")
    rows = [_category_row(figures) for figures in evaluation.categories]
    body = table(head, rows[:MAX_OPEN_ROWS])
    if len(rows) > MAX_OPEN_ROWS:
        body += (
            f"<details><summary>{len(rows) - MAX_OPEN_ROWS} more</summary>"
            f"{table(head, rows[MAX_OPEN_ROWS:])}</details>"
        )
    lead = (
        "The worst first. Recall: how many of its pictures are recognized. Precision: how many of "
        "the pictures that are given the category are of it."
    )
    return section("Categories", lead, body)


def _category_row(figures: CategoryFigures) -> tuple[str, ...]:
    recall, precision = figures.recall, figures.precision
    return (
        name(figures.name),
        str(figures.pictures),
        percent(recall.value, 0) if recall else "",
        bar(recall.value) if recall else "",
        interval(recall) if recall else "",
        str(figures.predicted),
        percent(precision.value, 0) if precision else "",
        bar(precision.value) if precision else "",
    )


def _coverage(evaluation: Evaluation) -> str:
    option = "<code>confidence_threshold</code>"
    lead = f"What remains if answers below a confidence are not given ({option})."
    head = ("confidence from", "answered", "", "right of those", "", "95 % interval")
    return section("Thresholds", lead, table(head, map(_coverage_row, evaluation.coverage)))


def _coverage_row(each: Coverage) -> tuple[str, ...]:
    return (
        percent(each.threshold, 0),
        f"{percent(each.answered.value)} ({each.answered.count})",
        bar(each.answered.value),
        percent(each.right.value) if each.right else "",
        bar(each.right.value) if each.right else "",
        interval(each.right) if each.right else "",
    )


def left_out(evaluation: Evaluation) -> str:
    """Returns a section on all files that the figures leave out."""
    answers = evaluation.answers
    files = [(each.picture.name, each.reason) for each in answers.unreadable]
    files += [
        (each.picture.name, f"category {each.picture.label or 'missing'}, which the model lacks")
        for each in answers.unknown
    ]
    files += [(file, "hidden, or in no category's folder") for file in answers.dataset.ignored]
    if not files:
        return ""
    lead = f"{len(files)} files are not part of the figures."
    if len(files) > MAX_FILES:
        lead += f" The first {MAX_FILES}:"
    rows = [(name(file), text(reason)) for file, reason in files[:MAX_FILES]]
    return section("Left out", lead, table(("file", "reason"), rows))
