"""`mc mb --ignore-existing store/BUCKET`, for moto."""

import os
import sys
import urllib.request
from urllib.parse import urlsplit

_, verb, option, target = sys.argv
assert (verb, option) == ("mb", "--ignore-existing")
alias, bucket = target.split("/")
store = urlsplit(os.environ[f"MC_HOST_{alias}"])
assert store.username, "the address has a user"
assert store.password, "the address has a password"
scope = "Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
request = urllib.request.Request(
    f"http://{store.hostname}:{store.port}/{bucket}",
    method="PUT",
    headers={"Authorization": f"AWS4-HMAC-SHA256 {scope}"},
)
with urllib.request.urlopen(request, timeout=10) as answer:
    assert answer.status == 200
