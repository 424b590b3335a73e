"""Failpoints: named points in the code at which a test can kill the process, as by SIGKILL.

`CATEGORIZER_TEST__FAILPOINT="<name>:<n>"` kills the process when it reaches the point for the n-th
time. Separate several points by commas. `<name>@<image>:<n>` counts only one image, given by its
file name, or at `image.decoding` by its SHA-256. A point that is not armed costs one lookup in an
empty dictionary.
"""

import hashlib
import os
import signal

NAMES = {
    "blob.stored": "an image is stored, but not yet part of a batch",
    "batch.accepting": "a batch is written, but not committed",
    "batch.accepted": "a batch is committed; no worker is notified, the caller has no answer",
    "batch.notified": "a worker is notified; the caller has no answer",
    "relay.taken": "notifications are read from the outbox; none is sent",
    "relay.sent": "notifications are sent; the outbox still holds them",
    "chunk.claimed": "a worker has leased a chunk; no image is started",
    "chunk.extended": "a lease is extended",
    "image.read": "an image is read or fetched, but not classified",
    "image.decoding": "the server is about to decode an image",
    "trial.started": "a child process that tries images has started; it is not ready",
    "image.classified": "an image is classified; its outcome is not written",
    "results.writing": "outcomes are written, but not committed",
    "results.written": "outcomes are committed",
    "batch.ended": "the last outcome of a batch and its end are committed",
    "chunk.returning": "a worker that stops is about to return a chunk",
    "sweep.begun": "a sweeper has the lock; nothing is cleaned up",
    "sweep.expired": "chunks of dead workers are released; no worker is notified",
    "batch.cancelled": "a cancellation is committed",
    "batch.retried": "a retry is committed",
    "batch.deleting": "a batch is deleted for its callers; its rows and images are still there",
    "rows.removing": "rows of a deleted batch are removed, but not committed",
    "rows.removed": "the removal of some rows is committed",
    "blobs.removing": "images without a batch are about to be deleted from the store",
    "blobs.removed": "images are deleted from the store; the outbox still holds them",
    "tenant.removing": "some rows of a deleted tenant are removed; others are still there",
    "tenant.emptied": "all rows and images of a deleted tenant are removed; its name is taken",
    "erasure.recorded": "an erasure is recorded in the store; nothing is removed",
    "erasure.batches": "batches of a subject are removed; their rows are still there",
    "erasure.messages": "messages about a subject are removed; its images are still there",
    "erasure.images": "rows of a subject's images are removed; the images are still there",
    "erasure.objects": "images of a subject are deleted from the store",
    "erasure.cache": "cached answers are removed",
    "erasure.data_keys": "data keys of a subject are removed",
    "erasure.certificate": "a certificate is in the store; the erasure is not done",
    "retention.removing": "rows that are too old are removed, but not committed",
    "retention.removed": "the removal of some rows that are too old is committed",
    "webhook.sending": "a delivery is about to be sent",
    "webhook.sent": "a delivery is sent; its outcome is not written",
}

_armed: dict[str, int] = {}


def arm(text: str) -> None:
    """Arms failpoints. Replaces those armed before.

    Args:
        text: `<name>:<n>` or `<name>@<image>:<n>`, several separated by commas; empty for none.

    Raises:
        ValueError: the text is malformed, or a name is unknown.
    """
    armed = {}
    for word in filter(None, text.split(",")):
        name, _, passes = word.strip().rpartition(":")
        if name.partition("@")[0] not in NAMES or not passes.isdecimal() or int(passes) < 1:
            raise ValueError(
                "must be '<name>:<n>'; run `image-categorizer failpoints` to list the names"
            )
        armed[name] = int(passes)
    _armed.clear()
    _armed.update(armed)


def hit(name: str, image: str | bytes = "") -> None:
    """Passes a failpoint. Kills the process if the point is armed for this pass.

    Args:
        name: name of the point.
        image: file name or content of the image, at points that handle one image at a time.
    """
    if _armed:
        if isinstance(image, bytes):
            image = hashlib.sha256(image).hexdigest()
        for counted in (name, f"{name}@{image}"):
            _armed[counted] = _armed.get(counted, 0) - 1
            if _armed[counted] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
