"""Terms: what images are found by.

An image has a row for each of its terms, with its time.  An index leads from a term to its images
in the order of a list, so a page costs the same however many images have the term.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from image_categorizer_server.db.convert import columns_of
from image_categorizer_server.db.database import Connection
from image_categorizer_server.domain.image import Image, ImageFilter, ImageResult

# Kinds: what stands before the colon of a term.
TAG, NAME, SUBJECT, CATEGORY, MODEL = "tag", "name", "subject", "category", "model"
REVIEW = "review"
OF_RESULT = CATEGORY, MODEL
WORD = re.compile(r"[^\W_]+")
REMOVE = """
DELETE FROM image_terms t USING unnest($1::text[], $2::text[], $3::text[]) AS c (
    tenant_id, image_id, kind)
WHERE t.tenant_id = c.tenant_id AND t.image_id = c.image_id AND split_part(t.term, ':', 1) = c.kind
    AND NOT EXISTS (SELECT FROM unnest($4::text[], $5::text[]) AS n (image_id, term)
        WHERE n.image_id = t.image_id AND n.term = t.term)
"""
SET = """
INSERT INTO image_terms (tenant_id, image_id, term, create_time, confidence)
SELECT tenant_id, image_id, term, create_time, confidence
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::real[]) AS t (
    tenant_id, image_id, term, create_time, confidence)
ON CONFLICT (tenant_id, image_id, term) DO UPDATE SET confidence = excluded.confidence
"""


class TermChange(NamedTuple):
    """New terms of an image."""

    tenant_id: str
    image_id: str
    create_time: datetime
    """Of the image."""
    kinds: Sequence[str]
    """Those that are replaced."""
    terms: Sequence[str]
    """The new ones, all of them."""
    confidence: float | None = None
    """Of the best prediction."""


def words_of(filename: str) -> tuple[str, ...]:
    """Returns the words of a file name, in small letters: its rows of letters and digits."""
    text = unicodedata.normalize("NFKC", filename).casefold()
    return tuple(dict.fromkeys(WORD.findall(text)))


def terms_of(image: Image) -> list[str]:
    """Returns the terms of an image, without those of its result."""
    subjects = [f"{SUBJECT}:{image.subject_key}"] if image.subject_key else []
    return [*subjects, *name_terms(image.filename), *tag_terms(image.tags)]


def name_terms(filename: str) -> list[str]:
    """Returns the terms of a file name."""
    return [f"{NAME}:{word}" for word in words_of(filename)]


def tag_terms(tags: Sequence[str]) -> list[str]:
    """Returns the terms of tags."""
    return [f"{TAG}:{tag}" for tag in tags]


def change_of(tenant_id: str, create_time: datetime, result: ImageResult) -> TermChange:
    """Returns the terms of a result, which replace those of an earlier one.

    One is the category without a name: of all images that have a prediction.

    Args:
        tenant_id: the tenant.
        create_time: of the image.
        result: the newest result of the image.
    """
    terms = [f"{MODEL}:{result.model.name}"]
    confidence = None
    if result.predictions:
        best = result.predictions[0]
        names = dict.fromkeys(("", best.category.name, *best.category.ancestors))
        terms += [f"{CATEGORY}:{name}" for name in names]
        confidence = best.confidence
    return TermChange(tenant_id, result.image_id, create_time, OF_RESULT, terms, confidence)


async def set_terms(connection: Connection, changes: Sequence[TermChange]) -> None:
    """Replaces terms of images, which the transaction has locked; of each image once."""
    removed = [(c.tenant_id, c.image_id, kind) for c in changes for kind in c.kinds]
    kept = [(c.image_id, term) for c in changes for term in c.terms]
    await connection.execute(REMOVE, *columns_of(removed, 3), *columns_of(kept, 2))
    added = [
        (c.tenant_id, c.image_id, term, c.create_time, c.confidence)
        for c in changes
        for term in c.terms
    ]
    await connection.execute(SET, *columns_of(added, 5))


def wanted_terms(search: ImageFilter, subject_key: str) -> list[str]:
    """Returns the terms that the images of a search have; the first is that of a category, if any.

    Args:
        search: what images must have.
        subject_key: the key of its subject; empty for none.
    """
    has_category = bool(search.category) or search.confidences is not None
    return [
        *([f"{CATEGORY}:{search.category}"] if has_category else []),
        *([f"{SUBJECT}:{subject_key}"] if subject_key else []),
        *tag_terms(search.tags),
        *name_terms(search.filename),
        *([f"{MODEL}:{search.model}"] if search.model else []),
        *([f"{REVIEW}:{search.review_state}"] if search.review_state else []),
    ]


def keys_query(count: int, *, has_confidences: bool) -> str:
    """Returns the query for the times and ids of the images with some terms, newest first.

    Its values: the tenant; the position (time, id) before which images are; the earliest time; the
    limit; the terms; then the least and the greatest confidence beside the first term.
    """
    first = 6
    joins = [
        f"JOIN image_terms t{n} ON t{n}.tenant_id = $1 AND t{n}.term = ${first + n}"
        f" AND t{n}.create_time = t0.create_time AND t{n}.image_id = t0.image_id"
        for n in range(1, count)
    ]
    bounds = f"AND t0.confidence BETWEEN ${first + count}::real AND ${first + count + 1}::real"
    return f"""
        SELECT t0.create_time, t0.image_id FROM image_terms t0 {" ".join(joins)}
        WHERE t0.tenant_id = $1 AND t0.term = ${first} AND t0.create_time >= $4
            AND (t0.create_time, t0.image_id) < ($2, $3) {bounds if has_confidences else ""}
        ORDER BY t0.create_time DESC, t0.image_id DESC LIMIT $5
    """  # noqa: S608 - of numbers


def near_query(count: int, *, has_confidences: bool) -> str:
    """Returns the query for the times and ids of the images with a hash near another one.

    Its values: as those of `keys_query`, but before the terms the hash, and by how many bits others
    may differ from it.  It reads all hashes of the tenant, in an index.
    """
    first = 8
    joins = [
        f"JOIN image_terms t{n} ON t{n}.tenant_id = $1 AND t{n}.term = ${first + n}"
        f" AND t{n}.image_id = i.image_id"
        for n in range(count)
    ]
    bounds = f"AND t0.confidence BETWEEN ${first + count}::real AND ${first + count + 1}::real"
    return f"""
        WITH near AS MATERIALIZED (
            SELECT image_id FROM images WHERE tenant_id = $1 AND perceptual_hash IS NOT NULL
                AND bit_count((perceptual_hash # $6::bigint)::bit(64)) <= $7::int
                AND lease_until IS NULL)
        SELECT i.create_time, i.image_id FROM near n
        JOIN images i ON i.tenant_id = $1 AND i.image_id = n.image_id {" ".join(joins)}
        WHERE i.create_time >= $4 AND (i.create_time, i.image_id) < ($2, $3)
            {bounds if has_confidences else ""}
        ORDER BY i.create_time DESC, i.image_id DESC LIMIT $5
    """  # noqa: S608 - of numbers
