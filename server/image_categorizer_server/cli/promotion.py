"""models policy and models check: which versions `stable` may point to."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from image_categorizer_server.cli.connection import Data
from image_categorizer_server.cli.evaluate import (
    Html,
    check_writable,
    evaluator_of,
    thumbnails_of,
)
from image_categorizer_server.cli.model import Name, open_repository, repository_settings
from image_categorizer_server.cli.output import AsJson, add_row, out, printable, say
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.aliases import STABLE
from image_categorizer_server.inference.models.promotion import Check, Policy, Promotion
from image_categorizer_server.inference.models.repository import Found, Repository
from image_categorizer_server.settings import Settings


def policy(
    name: Name,
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="Labelled pictures to check versions on: a folder with one subfolder per "
            'category, or JSON {"images": [{"file", "category" or "category_id"}]}.'
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Minimum share of pictures with the right answer."),
    ] = None,
    max_flips_per_category: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Maximum number of pictures of one category that the present stable version has "
            "right and the new one wrong. Any number if not set.",
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the policy.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Set the promotion policy of a model, or show it: stable then moves only to what has passed.

    Versions pass by `image-categorizer models check`. Setting a policy forgets earlier checks.
    """
    is_set = dataset is not None or min_accuracy is not None or max_flips_per_category is not None
    if remove and is_set:
        raise typer.BadParameter("cannot be combined with other options", param_hint="--remove")
    if is_set and (dataset is None or min_accuracy is None):
        raise typer.BadParameter(
            "a policy needs both", param_hint="'--dataset' and '--min-accuracy'"
        )
    repository = open_repository(repository_settings(data))
    if not any(found.name == name for found in repository.scan()):
        raise OperatorError(
            f"There is no model {name}. Run `image-categorizer models list` to see all models."
        )
    if remove:
        repository.set_policy(name, None)
        say(f"{name} has no promotion policy.")
    elif dataset is not None and min_accuracy is not None:
        made = Policy(
            dataset=str(dataset.resolve()),
            dataset_digest=_digest_of(dataset),
            min_accuracy=min_accuracy,
            max_flips_per_category=max_flips_per_category,
        )
        repository.set_policy(name, made)
        say(f"{name}: {STABLE} moves only to versions that pass `models check`.")
    else:
        _show(repository, name, as_json)


def check(
    name: Name,
    version: Annotated[
        str, typer.Argument(help="Version to check, a number or an alias. The newest by default.")
    ] = "",
    html: Html = None,
    data: Data = None,
) -> None:
    """Check a version against the promotion policy, and record the result.

    The exit code is 1 if it does not pass.
    """
    settings = repository_settings(data)
    check_writable(html)
    repository = open_repository(settings)
    found = repository.find(name, version or str(repository.latest(name)))
    policy = _promotion(repository, name).policy
    if _digest_of(Path(policy.dataset)) != policy.dataset_digest:
        raise OperatorError(_changed(name, policy))
    baseline = _baseline(repository, name, found, policy)
    made = _check(settings, policy, found, baseline, html)
    if made.dataset_digest != policy.dataset_digest:
        raise OperatorError(_changed(name, policy))
    repository.record_check(name, found.version, made, policy)
    shown = f"{name} {found.version} has {made.right} of {made.pictures} pictures right"
    lost = f", and {sum(made.flips.values())} wrong that {name} {made.baseline_version} has right"
    say(f"{shown}{lost if made.baseline_digest else ''}.")
    if reason := repository.promotion_refusal(name, found.version):
        raise OperatorError(f"{name} {found.version} does not pass: {reason}.")
    say(
        f"It passes. `image-categorizer models alias {name} {STABLE} {found.version}` lets it "
        "answer."
    )


def _check(
    settings: Settings, policy: Policy, found: Found, baseline: Found | None, html: Path | None
) -> Check:
    """Returns what a version shows now, and writes a report of it."""
    from image_categorizer_server.inference.evaluation.comparison import compare_answers
    from image_categorizer_server.inference.evaluation.dataset import read_labelled_set
    from image_categorizer_server.inference.evaluation.metrics import evaluation_of

    labelled = read_labelled_set(Path(policy.dataset))
    with evaluator_of(settings) as evaluator:
        evaluation = evaluation_of(evaluator.ask(found, labelled))
        compared = None
        if baseline:
            compared = compare_answers(evaluator.ask(baseline, labelled), evaluation.answers)
    if html and compared:
        from image_categorizer_server.cli.report.comparison import write_comparison

        write_comparison(html, compared, thumbnails_of(settings))
    elif html:
        from image_categorizer_server.cli.report.evaluation import write_evaluation

        write_evaluation(html, evaluation, thumbnails_of(settings))
    before = compared.before.ref if compared else None
    return Check(
        digest=evaluation.answers.ref.digest,
        dataset_digest=evaluation.answers.dataset_digest,
        right=evaluation.top_1_of_all.count,
        pictures=evaluation.top_1_of_all.total,
        baseline_version=before.version if before else None,
        baseline_digest=before.digest if before else "",
        flips=compared.lost_by_category if compared else {},
    )


def _baseline(repository: Repository, name: str, found: Found, policy: Policy) -> Found | None:
    """Returns the version to compare with; None if there is none, or flips do not matter."""
    if policy.max_flips_per_category is None:
        return None
    try:
        present = repository.find(name, STABLE)
    except OperatorError:  # no such alias, or its version is gone
        return None
    return None if present.version == found.version else present


def _promotion(repository: Repository, name: str) -> Promotion:
    promotion = repository.promotion(name)
    if promotion is None:
        raise OperatorError(
            f"{name} has no promotion policy. Set one with `image-categorizer models policy {name} "
            "--dataset ... --min-accuracy ...`."
        )
    return promotion


def _digest_of(dataset: Path) -> str:
    """Returns the digest of a labelled set.

    Raises:
        OperatorError: it cannot be read, or is empty.
    """
    from image_categorizer_server.inference.evaluation.dataset import (
        digest_of_set,
        file_hash,
        read_labelled_set,
    )

    pictures = read_labelled_set(dataset).pictures
    if not pictures:
        raise OperatorError(f"{dataset} has no labelled pictures.")
    return digest_of_set((picture, file_hash(picture.file)) for picture in pictures)


def _changed(name: str, policy: Policy) -> str:
    return (
        f"The pictures in {policy.dataset} have changed since the policy was set. "
        f"Set it again with `image-categorizer models policy {name} --dataset ...`."
    )


def _show(repository: Repository, name: str, as_json: bool) -> None:
    promotion = _promotion(repository, name)
    policy = promotion.policy
    versions = [found.version for found in repository.scan() if found.name == name]
    refusals = {version: repository.promotion_refusal(name, version) for version in versions}
    if as_json:
        checks = {
            str(version): promotion.checks[version].model_dump(mode="json")
            if version in promotion.checks
            else None
            for version in versions
        }
        shown = {
            "policy": policy.model_dump(mode="json"),
            "versions": [
                {
                    "version": version,
                    "passed": not refusals[version],
                    "reason": refusals[version],
                    "check": checks[str(version)],
                }
                for version in versions
            ],
        }
        print(json.dumps(shown, indent=1))
        return
    flips = policy.max_flips_per_category
    print(printable(f"pictures               {policy.dataset}"))
    print(f"minimum accuracy       {policy.min_accuracy:.1%}")
    print(f"flips in one category  {'any number' if flips is None else f'at most {flips}'}")
    table = Table("version", "aliases", "right", "passed")
    for version in versions:
        made = promotion.checks.get(version)
        add_row(
            table,
            str(version),
            ", ".join(repository.aliases_of(name, version)),
            f"{made.right} of {made.pictures}" if made else "",
            f"no: {refusals[version]}" if refusals[version] else "yes",
        )
    out().print(table)
