"""Retention, legal holds and blur through Envoy and on the command line."""

import io
import json

import numpy as np
from PIL import Image

from tests.support.pictures import encoded, scene
from tests.support.up import command

PICTURE = encoded(scene(seed=93), "PNG")


def answers(http):
    """Yields (path in the OpenAPI document, method, response) of each operation on retention."""
    rules = {"rules": [{"data_class": "DELIVERIES", "days": 30}]}
    yield "/v1/retention", "get", http.get("/v1/retention")
    yield "/v1/retention", "patch", http.patch("/v1/retention", json=rules)
    yield "/v1/retention:preview", "post", http.post("/v1/retention:preview", json={})
    image = http.post("/v1/images", files={"image": ("held.png", PICTURE)}).json()["image_id"]
    held = http.post("/v1/legal-holds", json={"image_id": image})
    yield "/v1/legal-holds", "post", held
    yield "/v1/legal-holds", "get", http.get("/v1/legal-holds")
    path = f"/v1/legal-holds/{held.json()['hold_id']}:release"
    yield "/v1/legal-holds/{hold_id}:release", "post", http.post(path, json={})


def test_what_is_held_stays_and_what_is_blurred_is_not_stored(up, http):
    form = {"image": ("face.png", PICTURE)}
    answer = http.post("/v1/classify?store=true&blur=80,60,240,180", files=form).json()
    image = f"/v1/images/{answer['image_id']}"
    content = http.get(f"{image}/content?format=png").content
    shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))[60:180, 80:240]
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 1
    fields = {"blur": ["0,0,10,10", "percent:50,50,60,60"]}
    assert http.post("/v1/images", files=form, data=fields).status_code == 200
    refused = http.post("/v1/images", files=form, data={"blur": "face"})
    assert (refused.status_code, "left,top,right,bottom" in refused.text) == (400, True)

    hold = http.post("/v1/legal-holds", json={"image_id": answer["image_id"]}).json()
    refused = http.delete(image)
    assert (refused.status_code, "LEGAL_HOLD" in refused.text) == (400, True)
    preview = command("retention", "preview", "images=1", "--json", "--data", up.data)
    found = {one["data_class"]: one for one in json.loads(preview.stdout)}
    assert (found["IMAGES"]["days"], found["IMAGES"]["count"]) == (1, 0)
    changed = command("retention", "set", "results=100", "images=default", "--data", up.data)
    assert "100 days" in changed.stdout
    rules = {rule["data_class"]: rule["days"] for rule in http.get("/v1/retention").json()["rules"]}
    assert (rules["RESULTS"], rules["IMAGES"]) == (100, 0)
    released = command("legal-holds", "release", hold["hold_id"], "--data", up.data)
    assert released.returncode == 0, released.stderr
    assert http.delete(image).status_code == 200
