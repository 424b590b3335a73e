"""evaluate and models compare: versions in the repository on labelled pictures."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from image_categorizer_server.cli.connection import Data
from image_categorizer_server.cli.model import open_repository, repository_settings
from image_categorizer_server.cli.output import (
    AsJson,
    add_row,
    out,
    printable,
    progress_of_steps,
    say,
)
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.repository import Found, Repository
from image_categorizer_server.settings import Settings

if TYPE_CHECKING:  # with the runtimes it imports takes a second
    from image_categorizer_server.inference.evaluation.answers import Answered, Answers, Evaluator
    from image_categorizer_server.inference.evaluation.comparison import Compared, Flip
    from image_categorizer_server.inference.evaluation.metrics import (
        Calibration,
        Evaluation,
        Share,
    )

MAX_ROWS = 10
BAR_COLUMNS = 40
Dataset = Annotated[
    Path,
    typer.Option(
        help="Labelled pictures: a folder with one subfolder per category, or JSON "
        '{"images": [{"file", "category" or "category_id"}]}.'
    ),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", help="File to write a report to, which one can send.", dir_okay=False),
]


def evaluate(
    dataset: Dataset,
    model: Annotated[
        str, typer.Option(help="Model to evaluate. The server's default model if not set.")
    ] = "",
    version: Annotated[
        str,
        typer.Option(
            help="Version of the model: a number, or an alias. If not set, the one that answers."
        ),
    ] = "",
    html: Html = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled pictures: accuracy, confusions, calibration.

    The model runs here, with the preprocessing and the runtime of the server.
    """
    from image_categorizer_server.cli.report.evaluation import left_out_sentences
    from image_categorizer_server.inference.evaluation.dataset import read_labelled_set
    from image_categorizer_server.inference.evaluation.metrics import evaluation_of

    settings = repository_settings(data)
    check_writable(html)
    found = open_repository(settings).find(model or settings.models.default, version)
    labelled = read_labelled_set(dataset)
    with evaluator_of(settings) as evaluator:
        evaluation = evaluation_of(evaluator.ask(found, labelled))
    for sentence in left_out_sentences(evaluation):
        say(sentence)
    if html:
        from image_categorizer_server.cli.report.evaluation import write_evaluation

        write_evaluation(html, evaluation, thumbnails_of(settings))
        say(f"Wrote {html}.")
    if as_json:
        print(json.dumps(evaluation_json(evaluation), indent=1))
    else:
        _print_evaluation(evaluation)


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="A model and two of its versions, numbers or aliases; or two times "
            "MODEL or MODEL:VERSION.",
            metavar="NAME A B | MODEL[:VERSION] MODEL[:VERSION]",
        ),
    ],
    dataset: Dataset,
    max_flips: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Exit with 1 if B has more pictures wrong that A has right. "
            "The others do not count.",
        ),
    ] = None,
    html: Html = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show which pictures flip between two versions: right by A and wrong by B, and back."""
    from image_categorizer_server.inference.evaluation.comparison import compare_answers
    from image_categorizer_server.inference.evaluation.dataset import read_labelled_set

    settings = repository_settings(data)
    check_writable(html)
    first, second = _versions(open_repository(settings), models)
    labelled = read_labelled_set(dataset)
    with evaluator_of(settings) as evaluator:
        before = evaluator.ask(first, labelled)
        compared = compare_answers(before, evaluator.ask(second, labelled))
    if compared.left_out:
        say(
            f"{compared.left_out} of {len(labelled.pictures)} pictures are left out: unreadable, "
            "or of categories that neither model has."
        )
    if html:
        from image_categorizer_server.cli.report.comparison import write_comparison

        write_comparison(html, compared, thumbnails_of(settings))
        say(f"Wrote {html}.")
    if as_json:
        print(json.dumps(_comparison_json(compared), indent=1))
    else:
        _print_comparison(compared)
    if max_flips is not None and len(compared.lost) > max_flips:
        raise OperatorError(
            f"{len(compared.lost)} pictures are right by {named(compared.before)} and wrong by "
            f"{named(compared.after)}; at most {max_flips} may be."
        )


@contextmanager
def evaluator_of(settings: Settings) -> Iterator["Evaluator"]:
    """Yields an evaluator, and shows its progress until the block ends."""
    from image_categorizer_server.backend import image_limits
    from image_categorizer_server.inference.evaluation.answers import Evaluator
    from image_categorizer_server.inference.images.decode import Decoder

    with progress_of_steps() as on_step:
        yield Evaluator(
            Decoder(image_limits(settings)),
            settings.max_image_bytes,
            settings.inference,
            settings.models,
            on_step,
        )


def thumbnails_of(settings: Settings) -> Any:
    """Returns what makes the pictures of a report."""
    from image_categorizer_server.backend import image_limits
    from image_categorizer_server.cli.report.page import Thumbnails
    from image_categorizer_server.inference.images.decode import Decoder

    return Thumbnails(Decoder(image_limits(settings)), settings.max_image_bytes)


def check_writable(report: Path | None) -> None:
    """Passes if a report can be written: before the work, not after it.

    Raises:
        OperatorError: it cannot.
    """
    if report and not report.resolve().parent.is_dir():
        raise OperatorError(f"Cannot write {report}: there is no folder {report.parent}.")


def named(answers: "Answers") -> str:
    """Returns the name and the version of the model."""
    return f"{answers.ref.name} {answers.ref.version}"


def _versions(repository: Repository, words: list[str]) -> tuple[Found, Found]:
    if len(words) == 3:
        name, first, second = words
        return repository.find(name, first), repository.find(name, second)
    if len(words) != 2:
        raise typer.BadParameter(
            "give a model and two versions, or two models", param_hint="NAME A B"
        )
    (first, _, before), (second, _, after) = (word.partition(":") for word in words)
    return repository.find(first, before), repository.find(second, after)


def _print_evaluation(evaluation: "Evaluation") -> None:
    answers = evaluation.answers
    print(
        printable(
            f"{answers.ref.name}, version {answers.ref.version}, on {evaluation.top_1.total} "
            f"pictures of {answers.dataset.name}"
        )
    )
    print(f"\ntop-1     {_share(evaluation.top_1)}")
    if evaluation.top_5:
        print(f"top-5     {_share(evaluation.top_5)}")
    calibration = evaluation.calibration
    chance = f"{calibration.ece_by_chance:.3f} is chance on so many pictures"
    print(f"ECE       {calibration.ece:.3f}  ({chance})")
    print(f"images/s  {answers.images_per_s:.1f}")
    print("\nReliability: how often answers are right (bar), by confidence (mark)")
    for line in reliability_lines(evaluation.calibration, is_plain=not _shows_blocks()):
        print(line)
    if evaluation.calibration_by_group:
        _print_groups(evaluation)
    print("\nCoverage against precision, if answers below a confidence are not given")
    table = Table("from", "answered", "right of those")
    for each in evaluation.coverage:
        right = _share(each.right) if each.right else ""
        add_row(table, f"{each.threshold:.0%}", f"{each.answered.value:.1%}", right)
    out().print(table)
    if evaluation.confusions:
        _print_confusions(evaluation)
        _print_categories(evaluation)


def _print_groups(evaluation: "Evaluation") -> None:
    print("\nCalibration of each group of answers that has a temperature")
    table = Table("group", "temperature", "answers", "ECE", "by chance")
    for group, each in evaluation.calibration_by_group.items():
        temperature = f"{evaluation.answers.temperatures[group]:g}"
        figures = f"{each.ece:.3f}", f"{each.ece_by_chance:.3f}"
        add_row(table, group, temperature, str(each.count), *figures)
    out().print(table)


def _print_confusions(evaluation: "Evaluation") -> None:
    print("\nMost frequent confusions")
    table = Table("category", "taken for", "pictures")
    table.add_column("for example", overflow="fold")
    for pair in evaluation.confusions[:MAX_ROWS]:
        example = pair.pictures[0].picture.name
        add_row(table, pair.category, pair.predicted, str(len(pair.pictures)), example)
    out().print(table)
    _print_more(len(evaluation.confusions), "pairs")


def _print_categories(evaluation: "Evaluation") -> None:
    print("\nWorst categories")
    table = Table("category", "pictures", "recall", "precision")
    for figures in evaluation.categories[:MAX_ROWS]:
        shares = (figures.recall, figures.precision)
        cells = (f"{share.value:.0%}" if share else "" for share in shares)
        add_row(table, figures.name, str(figures.pictures), *cells)
    out().print(table)
    _print_more(len(evaluation.categories), "categories")


def _print_more(count: int, what: str) -> None:
    if count > MAX_ROWS:
        print(f"{count - MAX_ROWS} more {what}: --json and --html have all.")


def _print_comparison(compared: "Compared") -> None:
    before, after = named(compared.before), named(compared.after)
    print(f"{before} and {after} on {compared.right_before.total} pictures of ", end="")
    print(printable(compared.before.dataset.name))
    width = max(len(before), len(after))
    print(f"\n{before:{width}}  {_share(compared.right_before)}")
    print(f"{after:{width}}  {_share(compared.right_after)}")
    print(
        f"\n{len(compared.lost)} lost (right by {before}, wrong by {after}), "
        f"{len(compared.gained)} gained, {len(compared.other)} wrong in two ways; "
        f"equal models flip as unevenly with p = {compared.p_value:.2g}"
    )
    for title, flips in (("Lost", compared.lost), ("Gained", compared.gained)):
        if flips:
            print(f"\n{title}")
            table = Table()
            table.add_column("file", overflow="fold")
            for column in ("is", before, after):
                table.add_column(column)
            for flip in flips[:MAX_ROWS]:
                add_row(table, flip.picture.name, flip.picture.label, *_answers_of(flip))
            out().print(table)
            _print_more(len(flips), "pictures")


def _answers_of(flip: "Flip") -> tuple[str, str]:
    before, after = flip.before.confidences[0], flip.after.confidences[0]
    return f"{flip.predicted_before} ({before:.0%})", f"{flip.predicted_after} ({after:.0%})"


def reliability_lines(calibration: "Calibration", *, is_plain: bool) -> list[str]:
    """Returns the reliability diagram for a terminal, a line for each bin that is not empty.

    Args:
        calibration: what to draw.
        is_plain: whether to use ASCII only.
    """
    block, mark = "#|" if is_plain else "█│"
    lines = []
    for each in calibration.bins:
        if not each.count:
            continue
        columns = round(each.accuracy * BAR_COLUMNS)
        cells = [block] * columns + [" "] * (BAR_COLUMNS - columns)
        cells[min(int(each.confidence * BAR_COLUMNS), BAR_COLUMNS - 1)] = mark
        lines.append(
            f"{each.low:4.0%} to {each.high:4.0%} {''.join(cells)} "
            f"{each.accuracy:4.0%} of {each.count} right, {each.confidence:.0%} said"
        )
    return lines


def _shows_blocks() -> bool:
    return out().encoding.lower().startswith("utf")


def _share(share: "Share") -> str:
    low, high = share.interval
    return (
        f"{share.value:.1%} ({low * 100:.1f} to {high * 100:.1f}), {share.count} of {share.total}"
    )


def share_json(share: "Share | None") -> dict[str, Any] | None:
    """Returns a share with its 95 % interval as JSON."""
    if share is None:
        return None
    low, high = share.interval
    return {
        "count": share.count,
        "total": share.total,
        "share": share.value,
        "interval_95": [low, high],
    }


def evaluation_json(evaluation: "Evaluation") -> dict[str, Any]:
    """Returns all figures as JSON."""
    answers = evaluation.answers
    return {
        "model": _ref_json(answers),
        "dataset": _dataset_json(answers),
        "unreadable": [
            {"file": each.picture.name, "reason": each.reason} for each in answers.unreadable
        ],
        "unknown_categories": evaluation.unknown_labels,
        "ignored_files": list(answers.dataset.ignored),
        "top_1": share_json(evaluation.top_1),
        "top_5": share_json(evaluation.top_5),
        "top_1_with_unknown_as_wrong": share_json(evaluation.top_1_of_all),
        "images_per_s": answers.images_per_s,
        "calibration": {
            "ece": evaluation.calibration.ece,
            "ece_by_chance": evaluation.calibration.ece_by_chance,
            "bins": [
                {
                    "low": each.low,
                    "high": each.high,
                    "count": each.count,
                    "confidence": each.confidence if each.count else None,
                    "accuracy": each.accuracy if each.count else None,
                }
                for each in evaluation.calibration.bins
            ],
            "groups": [
                {
                    "group": group,
                    "temperature": answers.temperatures[group],
                    "answers": each.count,
                    "ece": each.ece,
                    "ece_by_chance": each.ece_by_chance,
                }
                for group, each in evaluation.calibration_by_group.items()
            ],
        },
        "coverage": [
            {
                "threshold": each.threshold,
                "answered": share_json(each.answered),
                "precision": share_json(each.right),
            }
            for each in evaluation.coverage
        ],
        "categories": [
            {
                "category": figures.name,
                "pictures": figures.pictures,
                "predicted": figures.predicted,
                "right": figures.right,
                "recall": share_json(figures.recall),
                "precision": share_json(figures.precision),
            }
            for figures in evaluation.categories
        ],
        "confusions": [
            {
                "category": pair.category,
                "predicted": pair.predicted,
                "count": len(pair.pictures),
                "examples": [_example_json(each) for each in pair.pictures],
            }
            for pair in evaluation.confusions
        ],
    }


def _example_json(answered: "Answered") -> dict[str, Any]:
    return {"file": answered.picture.name, "confidence": answered.confidences[0]}


def _ref_json(answers: "Answers") -> dict[str, Any]:
    ref = answers.ref
    return {"name": ref.name, "version": ref.version, "digest": ref.digest}


def _dataset_json(answers: "Answers") -> dict[str, Any]:
    return {
        "name": answers.dataset.name,
        "digest": answers.dataset_digest,
        "pictures": len(answers.dataset.pictures),
    }


def _comparison_json(compared: "Compared") -> dict[str, Any]:
    return {
        "before": _ref_json(compared.before) | {"top_1": share_json(compared.right_before)},
        "after": _ref_json(compared.after) | {"top_1": share_json(compared.right_after)},
        "dataset": _dataset_json(compared.before),
        "left_out": compared.left_out,
        "p_value": compared.p_value,
        "lost_by_category": compared.lost_by_category,
        "lost": [_flip_json(flip) for flip in compared.lost],
        "gained": [_flip_json(flip) for flip in compared.gained],
        "wrong_in_two_ways": [_flip_json(flip) for flip in compared.other],
    }


def _flip_json(flip: "Flip") -> dict[str, Any]:
    return {
        "file": flip.picture.name,
        "category": flip.picture.label,
        "before": {
            "category": flip.predicted_before,
            "confidence": flip.before.confidences[0],
        },
        "after": {
            "category": flip.predicted_after,
            "confidence": flip.after.confidences[0],
        },
    }
