"""Classifies all pictures below a prefix of an S3 bucket, and writes the results beside them.

    pip install boto3
    API_KEY=ic_... python examples/label_bucket.py my-bucket photos/ labels.csv

The pictures go through this program, so only it needs credentials for the bucket: boto3 finds them
as the AWS command line does. Where the server may read the bucket itself,
`client.batches.submit_uris` with `s3://` addresses saves the detour.

Run it again after a crash: while the list of pictures is the same, the server knows the batch, and
does not begin again. `AWS_ENDPOINT_URL` names another store that speaks S3.
"""

import argparse
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import boto3
from image_categorizer import Batch, ImageCategorizationClient

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
# How many pictures are read at a time, and so how many are in memory.
READ_AHEAD = 16


def pictures_of(s3: Any, bucket: str, prefix: str, max_bytes: int) -> dict[str, str]:
    """Returns the names of the pictures below a prefix, each with what changes with its content."""
    found = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            if not item["Key"].lower().endswith(SUFFIXES):
                continue
            if item["Size"] > max_bytes:
                print(f"{item['Key']!r} is larger than the server accepts, and left out")
                continue
            found[item["Key"]] = item["ETag"]
    return found


class Pictures(Sequence[tuple[str, bytes]]):
    """The pictures of a bucket as sources of a batch, each read shortly before it is sent.

    It is a sequence, so the client sends them once more if the connection breaks.
    """

    def __init__(self, s3: Any, bucket: str, keys: Sequence[str]) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: Any) -> Any:
        key = self._keys[index]
        return key, self._read(key)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        waiting: deque[tuple[str, Future[bytes]]] = deque()
        with ThreadPoolExecutor(READ_AHEAD) as readers:
            for key in self._keys:
                waiting.append((key, readers.submit(self._read, key)))
                if len(waiting) == READ_AHEAD:
                    name, content = waiting.popleft()
                    yield name, content.result()
            for name, content in waiting:
                yield name, content.result()

    def _read(self, key: str) -> bytes:
        content: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return content


def label(client: ImageCategorizationClient, bucket: str, prefix: str, output: str) -> Batch:
    """Classifies the pictures, writes the CSV file `output` into the bucket, returns the batch."""
    s3 = boto3.client("s3")
    found = pictures_of(s3, bucket, prefix, client.server_info().limits.max_image_bytes)
    # The same list is the same batch.
    request_id = hashlib.sha256(repr((bucket, found)).encode()).hexdigest()
    pictures = Pictures(s3, bucket, list(found))
    batch = client.batches.submit(pictures, request_id=request_id, top_k=3)
    print(f"{batch.batch_id}: {batch.item_count} pictures")
    for changed in client.batches.watch(batch.batch_id):
        batch = changed
        print(f"{batch.state}: {batch.done_count} of {batch.item_count}")
    batch.raise_unless_completed()
    with tempfile.TemporaryFile() as results:
        for piece in client.batches.export(batch.batch_id, "csv"):
            results.write(piece)
        results.seek(0)
        s3.upload_fileobj(results, bucket, output)
    counts = f"{batch.succeeded_count} classified, {batch.failed_count} failed"
    print(f"s3://{bucket}/{output}: {counts}")
    return batch


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Classify the pictures of an S3 bucket.")
    parser.add_argument("bucket")
    parser.add_argument("prefix", help="such as photos/; empty: the whole bucket")
    parser.add_argument("output", help="the name of the CSV file in the bucket")
    words = parser.parse_args()
    base_url = os.environ.get("BASE_URL", "localhost:8080")
    with ImageCategorizationClient(os.environ["API_KEY"], base_url) as service:
        label(service, words.bucket, words.prefix, words.output)
