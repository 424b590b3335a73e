"""Receipts: what they state, that a change shows, that keys rotate, and that a result replays."""

import base64
import json

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    InvalidRequest,
    ReceiptInvalid,
    ReceiptMissing,
    ResultNotFound,
    RoleInsufficient,
    verify_receipt,
)
from image_categorizer_server.access.signing import SigningKey
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.domain.key import KeySpec
from image_categorizer_server.services.key import operator
from image_categorizer_server.settings.audit import AuditSettings
from image_categorizer_server.settings.database import CacheSettings
from image_categorizer_server.version import VERSION

from tests.integration.conftest import running_server
from tests.support.batch_tools import do_all
from tests.support.pictures import jpeg

PICTURE, OTHER = jpeg(64, 48, 1), jpeg(64, 48, 2)
pytestmark = pytest.mark.usefixtures("every_tenant")


@pytest.fixture
def settings(settings):
    return with_audit(settings, signing_key=SigningKey.generate().pem())


def with_audit(settings, **values):
    return settings.model_copy(update={"audit": AuditSettings(**values)})


async def execute(statement, *values):
    async with connected() as connection:
        await connection.execute(statement, *values)


def claims_in(receipt):
    payload = receipt.receipt.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


async def test_a_receipt_states_what_was_classified_how_and_what_was_found(client):
    options = {"top_k": 2, "confidence_threshold": 0.125, "exclude_categories": ["cat"]}
    result = await client.classify_image(PICTURE, store=True, **options)
    receipt = await client.results.receipt(result.result_id)
    claims = verify_receipt(receipt.receipt, await client.results.keys(), PICTURE)
    assert claims == claims_in(receipt)
    assert (claims["tenant_id"], claims["result_id"]) == ("default", result.result_id)
    assert (claims["image_id"], claims["signed"]) == (result.image_id, "STORED")
    assert claims["server_version"] == VERSION
    assert claims["model"] == {
        "name": "small",
        "version": 1,
        "digest": result.model.digest,
    }
    assert sorted(claims["digests"]) == ["calibration", "preprocessing", "taxonomy"]
    assert {len(digest) for digest in claims["digests"].values()} == {len("sha256:") + 64}
    assert len(set(claims["digests"].values())) == 3
    stated = {name: claims["options"][name] for name in options}
    assert stated == options
    found = [(p.category, p.confidence) for p in result.predictions]
    assert [p["category"] for p in claims["predictions"]] == [category for category, _ in found]
    for stated_prediction, (_, confidence) in zip(claims["predictions"], found, strict=True):
        assert stated_prediction["confidence"] == pytest.approx(confidence, abs=1e-6)
    with pytest.raises(ReceiptInvalid, match="another image"):
        verify_receipt(receipt.receipt, await client.results.keys(), OTHER)


async def test_a_receipt_names_no_person(settings):
    private = settings.model_copy(
        update={"privacy": settings.privacy.model_copy(update={"secret": "s" * 32})}
    )
    async with running_server(private) as server, await server.client() as client:
        result = await client.classify_image(PICTURE, store=True, subject_id="ann-canary")
        receipt = await client.results.receipt(result.result_id)
        async with connected() as connection:
            (row,) = await connection.fetch("SELECT * FROM image_results")
    assert "ann-canary" not in json.dumps(claims_in(receipt))
    assert "ann-canary" not in repr(row)


async def test_what_is_cached_changes_no_receipt(settings):
    caching = settings.model_copy(update={"cache": CacheSettings()})
    async with running_server(caching) as server, await server.client() as client:
        assert (await client.classify_image(PICTURE)).cache == "MISS"
        assert (await client.classify_image(PICTURE)).cache == "HIT"
        # To be kept, it is classified again: what is cached has no embedding.
        stored = [await client.classify_image(PICTURE, store=True) for _ in range(2)]
        receipts = [await client.results.receipt(result.result_id) for result in stored]
    first, second = map(claims_in, receipts)
    different = {name for name in first if first[name] != second[name]}
    assert different == {"result_id", "create_time"}


async def test_a_changed_receipt_and_a_changed_row_are_found(client):
    result = await client.classify_image(PICTURE, store=True)
    receipt = await client.results.receipt(result.result_id)
    right = await client.results.verify(receipt)
    assert (right.valid, right.problems, right.result_id) == (True, (), result.result_id)
    header, _, signature = receipt.receipt.split(".")
    claims = claims_in(receipt) | {"input_sha256": "0" * 64}
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    wrong = await client.results.verify(f"{header}.{forged}.{signature}")
    assert (wrong.valid, wrong.key_known, wrong.signature_valid) == (False, True, False)
    assert "was changed" in wrong.problems[0]
    nonsense = await client.results.verify("nonsense")
    assert (nonsense.valid, nonsense.key_known) == (False, False)
    with pytest.raises(InvalidRequest):
        await client.results.verify("")
    await execute("UPDATE image_results SET predictions = '[]', input_sha256 = 'x'")
    changed = await client.results.verify(receipt)
    assert (changed.valid, changed.signature_valid, changed.result_unchanged) == (
        *(False, True),
        False,
    )
    assert changed.problems == ("The stored result has changed: input_sha256, predictions.",)
    await client.images.delete(result.image_id)
    gone = await client.results.verify(receipt)
    assert gone.problems == ("The result is no longer stored.",)
    with pytest.raises(ResultNotFound):
        await client.results.receipt(result.result_id)


async def test_receipts_of_a_replaced_key_stay_valid(settings, tmp_path):
    old, new, stranger = (SigningKey.generate() for _ in range(3))
    replaced = tmp_path / "replaced.pem"
    replaced.write_text(stranger.public_key.pem() + old.public_key.pem())
    first_key, second_key = (with_audit(settings, signing_key=key.pem()) for key in (old, new))
    async with running_server(first_key) as server, await server.client() as client:
        first = await client.classify_image(PICTURE, store=True)
        before = await client.results.receipt(first.result_id)
    both = with_audit(settings, signing_key=new.pem(), replaced_keys_file=str(replaced))
    async with running_server(both) as server, await server.client() as client:
        keys = await client.results.keys()
        assert (await client.results.verify(before)).valid
        second = await client.classify_image(PICTURE, store=True)
        after = await client.results.receipt(second.result_id)
    ids = [new.public_key.key_id, stranger.public_key.key_id, old.public_key.key_id]
    assert [key["kid"] for key in keys["keys"]] == ids
    assert (before.key_id, after.key_id) == (ids[2], ids[0])
    for receipt in (before, after):
        verify_receipt(receipt.receipt, keys, PICTURE)
    async with running_server(second_key) as server, await server.client() as client:
        unknown = await client.results.verify(before)
    assert (unknown.key_known, unknown.valid) == (False, False)


async def test_without_a_key_there_are_no_receipts_but_replays(settings):
    unsigned = settings.model_copy(update={"audit": AuditSettings()})
    async with running_server(unsigned) as server, await server.client() as client:
        result = await client.classify_image(PICTURE, store=True)
        with pytest.raises(ReceiptMissing, match="CATEGORIZER_AUDIT__SIGNING_KEY_FILE"):
            await client.results.receipt(result.result_id)
        assert await client.results.keys() == {"keys": []}
        assert (await client.results.replay(result.result_id)).matches


async def test_another_tenant_sees_no_receipt(client, server):
    result = await client.classify_image(PICTURE, store=True)
    receipt = await client.results.receipt(result.result_id)
    stranger = await server.key(Role.CLASSIFIER, "t2")
    async with AsyncImageCategorizationClient(stranger, server.address) as other:
        with pytest.raises(ResultNotFound):
            await other.results.receipt(result.result_id)
        with pytest.raises(ResultNotFound):
            await other.results.replay(result.result_id)
        found = await other.results.verify(receipt)
    assert (found.signature_valid, found.valid) == (True, False)
    assert found.problems == ("The result belongs to another tenant.",)


async def test_a_result_replays_and_says_what_differs(client):
    result = await client.classify_image(PICTURE, store=True, top_k=3, bounding_boxes=True)
    replay = await client.results.replay(result.result_id)
    assert (replay.matches, replay.differences) == (True, ())
    assert replay.max_difference <= 1e-4
    assert replay.model == result.model
    assert [p.category for p in replay.predictions] == [p.category for p in result.predictions]
    await execute(
        """
        UPDATE image_results SET server_version = '0.0.1',
            digests = jsonb_set(digests, '{preprocessing}', '"sha256:1"'),
            predictions = jsonb_set(predictions, '{0,confidence}', '0.01')
        """
    )
    replay = await client.results.replay(result.result_id)
    assert not replay.matches
    assert replay.max_difference == pytest.approx(result.predictions[0].confidence - 0.01)
    differences = {each.name: each.recorded for each in replay.differences}
    assert differences == {"preprocessing": "sha256:1", "server_version": "0.0.1"}
    async with connected() as connection:
        assert await connection.fetchval("SELECT count(*) FROM image_results") == 1


async def test_a_replay_needs_the_scopes_of_images_and_of_classifying(server, client):
    result = await client.classify_image(PICTURE, store=True)
    for scopes in ({Scope.CLASSIFY}, {Scope.IMAGES_READ}):
        spec = KeySpec("limited", Role.CLASSIFIER, scopes=frozenset(scopes))
        key = await server.backend.keys.create(operator(), spec)
        async with AsyncImageCategorizationClient(key.secret, server.address) as limited:
            with pytest.raises(RoleInsufficient):
                await limited.results.replay(result.result_id)


async def test_items_of_batches_have_receipts_on_request(server, client):
    batch = await client.batches.submit([("a.jpg", PICTURE), ("b.jpg", OTHER)])
    await do_all(bad=frozenset({1}))
    receipt = await client.results.receipt(f"{batch.batch_id}.0")
    claims = verify_receipt(receipt.receipt, await client.results.keys(), PICTURE)
    assert (claims["signed"], claims["image_id"]) == ("REQUESTED", "")
    assert (await client.results.verify(receipt)).valid
    await execute("UPDATE batch_results SET model_digest = 'sha256:1'")
    assert (await client.results.verify(receipt)).problems == (
        "The stored result has changed: model.",
    )
    for number in (1, 2):
        with pytest.raises(ResultNotFound):
            await client.results.receipt(f"{batch.batch_id}.{number}")
    with pytest.raises(InvalidRequest):
        await client.results.replay(f"{batch.batch_id}.0")
