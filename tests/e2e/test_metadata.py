"""Discovery and health through Envoy, and the OpenAPI document against what the gateway answers."""

import base64
import json

import httpx
import jsonschema
import pytest
import yaml
from image_categorizer import ImageCategorizationClient

from tests.e2e.test_image_uploads import answers as upload_answers
from tests.e2e.test_images import answers as image_answers
from tests.e2e.test_keys import answers as key_answers
from tests.e2e.test_own_categories import answers as category_answers
from tests.e2e.test_receipts import answers as receipt_answers
from tests.e2e.test_retention import answers as retention_answers
from tests.e2e.test_subjects import answers as subject_answers
from tests.e2e.test_tenants import answers as tenant_answers
from tests.e2e.test_webhooks import answers as webhook_answers
from tests.support.pictures import jpeg

PICTURE = jpeg()


@pytest.fixture(scope="module")
def openapi(up):
    answer = httpx.get(f"{up.url}/openapi.yaml")
    assert answer.headers["content-type"] == "application/yaml"
    return yaml.safe_load(answer.text)


def test_models_are_listed_and_described(http):
    (packaged,) = http.get("/v1/models").json()["models"]
    assert packaged["name"] == "efficientnet_lite0"
    assert (packaged["version"], packaged["state"]) == ("1", "READY")
    assert (packaged["default"], packaged["category_count"]) == (True, 1000)
    assert (packaged["runtime"], packaged["device"]) == ("onnx", "cpu")
    path = "/v1/models/efficientnet_lite0"
    assert http.get(path).json() == http.get(f"{path}?version=1").json() == packaged
    assert http.get(f"{path}?version=2").status_code == 404
    assert http.get(f"{path}?version=stable").status_code == 404


def test_categories_are_paged(http):
    everything = http.get("/v1/categories?page_size=1000").json()
    assert (len(everything["categories"]), everything["next_page_token"]) == (1000, "")
    tabby = everything["categories"][281]
    assert (tabby["category"], tabby["category_id"]) == ("tabby", "n02123045")
    assert tabby["ancestors"] == ["cat", "mammal", "animal"]
    paged, token = [], ""
    while True:
        query = {"page_size": 300, "page_token": token, "model": "efficientnet_lite0"}
        page = http.get("/v1/categories", params=query).json()
        paged += page["categories"]
        if not (token := page["next_page_token"]):
            break
    assert paged == everything["categories"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page_size=-1", "page_size"),
        ("page_token=nonsense", "page_token"),
        ("version=X", "version"),
    ],
)
def test_wrong_page_requests_name_the_field(http, query, field):
    answer = http.get(f"/v1/categories?{query}")
    assert answer.status_code == 400
    assert field in answer.json()["message"]


def test_info_contains_limits_and_formats(http):
    info = http.get("/v1/info").json()
    assert info["image_formats"] == ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"]
    assert info["limits"]["max_image_bytes"] == 2 << 20
    assert info["default_model"] == "efficientnet_lite0"


def test_the_sdk_discovers_the_same(up, admin_key, http):
    with ImageCategorizationClient(admin_key, up.url) as client:
        assert [m.name for m in client.models.list()] == ["efficientnet_lite0"]
        assert [c.category for c in client.models.categories()][:2] == ["tench", "goldfish"]
        assert client.server_info().limits.max_image_bytes == 2 << 20


def test_health_needs_no_key(up):
    assert httpx.get(f"{up.url}/healthz").json() == {"live": True}
    assert httpx.get(f"{up.url}/readyz").json() == {"ready": True, "degraded": []}


def answers(http, model, receiver):
    """Yields (path in the document, method, response) of every operation."""
    image = base64.b64encode(PICTURE).decode()
    yield "/v1/classify", "post", http.post("/v1/classify", json={"image": image})
    yield "/v1/categories", "get", http.get("/v1/categories?page_size=2")
    yield "/v1/models", "get", http.get("/v1/models")
    yield "/v1/models/{model}", "get", http.get("/v1/models/efficientnet_lite0")
    for verb in ("unload", "load", "setAlias"):
        body = {"version": "1"} | ({"alias": "stable"} if verb == "setAlias" else {})
        answer = http.post(f"/v1/models/{model}:{verb}", json=body)
        yield f"/v1/models/{{model}}:{verb}", "post", answer
    yield from webhook_answers(http, receiver)
    yield from key_answers(http)
    yield from image_answers(http)
    yield from upload_answers(http)
    yield from receipt_answers(http)
    yield from embedding_answers(http, image)
    yield from subject_answers(http)
    yield from retention_answers(http)
    yield from feedback_answers(http, image)
    yield from category_answers(http)
    yield "/v1/audit", "get", http.get("/v1/audit?page_size=5")
    yield "/v1/audit:export", "get", http.get("/v1/audit:export")
    yield "/v1/info", "get", http.get("/v1/info")
    yield "/v1/usage", "get", http.get("/v1/usage?group_by=model")
    yield "/v1/server:statistics", "get", http.get("/v1/server:statistics")
    yield "/v1/me", "get", http.get("/v1/me")
    yield "/healthz", "get", http.get("/healthz")
    yield "/readyz", "get", http.get("/readyz")
    yield from batch_answers(http, image, receiver.url)


def embedding_answers(http, image):
    yield "/v1/embeddings", "post", http.post("/v1/embeddings", json={"image": image})
    image_id = http.post("/v1/classify", json={"image": image, "options": {"store": True}}).json()[
        "image_id"
    ]
    answer = http.get(f"/v1/images/{image_id}:similar")
    yield "/v1/images/{image_id}:similar", "get", answer
    yield "/v1/images:similar", "post", http.post("/v1/images:similar", json={"image": image})
    http.delete(f"/v1/images/{image_id}")


def feedback_answers(http, image):
    options = {"store": True}
    stored = http.post("/v1/classify", json={"image": image, "options": options}).json()
    path = f"/v1/images/{stored['image_id']}:feedback"
    said = http.post(path, json={"judgement": "RIGHT"})
    yield "/v1/images/{image_id}:feedback", "post", said
    yield "/v1/feedback", "get", http.get("/v1/feedback")
    undone = http.delete(f"/v1/feedback/{said.json()['feedback_id']}")
    yield "/v1/feedback/{feedback_id}", "delete", undone
    yield "/v1/reviews", "get", http.get("/v1/reviews?page_size=2")
    skipped = http.post(f"/v1/reviews/{stored['image_id']}:skip", json={})
    yield "/v1/reviews/{image_id}:skip", "post", skipped
    yield "/v1/reviews/agreement", "get", http.get("/v1/reviews/agreement")
    yield "/v1/images:duplicates", "get", http.get("/v1/images:duplicates?page_size=2")
    exported = http.get("/v1/images:export?include_unreviewed=true")
    yield "/v1/images:export", "get", exported
    http.delete(f"/v1/images/{stored['image_id']}")


def batch_answers(http, image, webhook_url):
    path = "/v1/batch/{batch_id}"
    items = [{"image": image}, {"image": "AAAA"}]
    created = http.post("/v1/batch", json={"items": items, "webhook_url": webhook_url})
    yield "/v1/batch", "post", created
    here = f"/v1/batch/{created.json()['batch_id']}"
    yield f"{path}:watch", "get", http.get(f"{here}:watch")
    yield "/v1/batch", "get", http.get("/v1/batch?page_size=2")
    yield path, "get", http.get(here)
    yield f"{path}/results", "get", http.get(f"{here}/results")
    yield f"{path}/results:export", "get", http.get(f"{here}/results:export")
    yield f"{path}:retry", "post", http.post(f"{here}:retry", json={})
    yield f"{path}:cancel", "post", http.post(f"{here}:cancel", json={})
    http.get(f"{here}:watch")
    yield path, "delete", http.delete(here)


def schema_of(openapi, name):
    return {"$ref": f"#/components/schemas/{name}", "components": closed(openapi)["components"]}


def closed(openapi):
    """Returns the document with no other fields allowed than those that it describes."""
    for schema in openapi["components"]["schemas"].values():
        if "@type" not in schema.get("properties", {}):
            schema["additionalProperties"] = False
    return openapi


def test_what_answers_always_contain_is_required(openapi):
    optional = {
        f"{message}.{name}"
        for message, schema in openapi["components"]["schemas"].items()
        for name in schema.get("properties", ())
        if "required" in schema and name not in schema["required"]
    }
    assert optional == {
        "ApiKey.expire_time",
        "ApiKey.last_use_time",
        "ApiKey.previous_secret_expire_time",
        "ApiKey.revoke_time",
        "Batch.end_time",
        "Batch.remaining_time",
        "Batch.start_time",
        "BatchResult.classification",
        "ClassifyStreamResponse.response",
        "ClassifyStreamResponse.status",
        "Image.facts",
        "Image.result",
        "Erasure.allow_time",
        "Erasure.end_time",
        "Feedback.undo_time",
        "CategoryHead.trial",
        "LegalHold.end_time",
        "Prediction.raw_confidence",
        "Prediction.source",
        "RetentionForecast.oldest_time",
        "ReviewAgreement.fleiss_kappa",
        "ReviewAgreement.observed_agreement",
        "ReviewItem.disagreement",
        "ReviewItem.skip_time",
        "ReviewerPair.cohen_kappa",
        "Tenant.delete_time",
        "Webhook.previous_secret_expire_time",
        "WebhookDelivery.end_time",
        "WebhookDelivery.next_attempt_time",
    }
    classified = openapi["components"]["schemas"]["ClassifyResponse"]
    assert classified["required"] == list(classified["properties"])
    assert classified["properties"]["cache"]["enum"] == ["CACHE_UNSPECIFIED", "HIT", "MISS"]


def test_every_operation_of_the_document_answers_as_it_says(
    http, platform, openapi, roses, receiver
):
    seen = set()
    for path, method, answer in (*answers(http, roses, receiver), *tenant_answers(platform)):
        seen.add((path, method))
        assert answer.status_code == 200
        content = openapi["paths"][path][method]["responses"]["200"]["content"]
        kind = answer.headers["content-type"]
        if "$ref" in content[kind]["schema"]:
            name = content[kind]["schema"]["$ref"].rsplit("/", 1)[1]
            bodies = answer.text.splitlines() if kind == "application/x-ndjson" else [answer.text]
            for body in bodies:
                jsonschema.validate(json.loads(body), schema_of(openapi, name))
    documented = {(path, method) for path, item in openapi["paths"].items() for method in item}
    assert documented == seen


def test_refusals_are_as_the_document_says(http, openapi):
    for answer in (
        http.get("/v1/nope"),
        http.get("/v1/models/nope"),
        http.post("/v1/classify", json={}),
        httpx.get(f"{http.base_url}/v1/info"),
    ):
        jsonschema.validate(answer.json(), schema_of(openapi, "Status"))


def test_every_body_kind_and_parameter_of_the_document_works(http, openapi, receiver):
    operation = openapi["paths"]["/v1/classify"]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
        "application/octet-stream",
        "image/*",
    }
    values = {
        "model": "efficientnet_lite0",
        "version": "1",
        "confidence_threshold": "0.1",
        "top_k": "2",
        "include_categories": "tabby",
        "exclude_categories": "beagle",
        "bounding_boxes": "true",
        "explain": "true",
        "no_cache": "true",
        "roll_up": "false",
        "raw_confidence": "true",
        "store": "true",
        "subject_id": "ann",
        "blur": "0,0,9,9",
        "webhook_url": receiver.url,
        "filename": "a.jpg",
    }
    offered = {*values, "image_uri", "image_id"}
    assert {parameter["name"] for parameter in operation["parameters"]} == offered
    answer = http.post("/v1/classify", params=values, content=PICTURE)
    assert answer.status_code == 200
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"image", *offered}
    answer = http.post("/v1/classify", data=values, files={"image": PICTURE})
    assert answer.status_code == 200
