"""Named points of a batch's life at which a test can kill the process, as by `kill -9`.

`CATEGORIZER_TEST__FAILPOINT="<name>:<n>"` ends the process at the n-th pass of the point; several
are separated by commas.  `<name>@<image>:<n>` counts only passes with that image: its file name,
or at `image.decoding` its SHA-256.  Unarmed, a pass costs one look at an empty dictionary.
"""

import hashlib
import os
import signal

NAMES = {
    "blob.stored": "an image is in the store, and in no batch yet",
    "batch.accepting": "a batch is written, and not yet committed",
    "batch.accepted": "a batch is committed; nobody was rung, and the caller has no answer",
    "batch.rung": "a worker was rung; the caller has no answer",
    "relay.taken": "bells to ring were read from the outbox; none was rung",
    "relay.rung": "bells were rung; the outbox does not know",
    "chunk.claimed": "a worker has leased a chunk; nothing of it has begun",
    "chunk.extended": "a lease was extended",
    "image.read": "an image was read or fetched; nobody has classified it",
    "image.decoding": "the server is about to decode an image",
    "image.classified": "an image is classified; its outcome is written nowhere",
    "results.writing": "outcomes are written, and not yet committed",
    "results.written": "outcomes are committed",
    "batch.ended": "the last outcome of a batch and its end are committed",
    "chunk.returning": "a worker that stops is about to give a chunk back",
    "sweep.begun": "a sweeper has the lock; nothing is swept",
    "sweep.expired": "chunks of dead workers may be claimed again; nobody was rung",
    "batch.cancelled": "a cancellation is committed",
    "batch.retried": "a repetition is committed",
    "batch.deleting": "a batch is out of the database; its images are still stored",
    "blobs.removing": "images that no batch refers to are about to be removed from the store",
    "webhook.sending": "a delivery is about to be sent",
    "webhook.sent": "a delivery was sent; its outcome is written nowhere",
}

_armed: dict[str, int] = {}


def arm(text: str) -> None:
    """Sets which points kill, in place of those set before.

    Args:
        text: `<name>:<n>` or `<name>@<image>:<n>`, several separated by commas; empty for none.

    Raises:
        ValueError: it is none of that, or a name is unknown.
    """
    armed = {}
    for word in filter(None, text.split(",")):
        name, _, passes = word.strip().rpartition(":")
        if name.partition("@")[0] not in NAMES or not passes.isdecimal() or int(passes) < 1:
            raise ValueError(
                "must be '<name>:<n>', where `image-categorizer failpoints` lists the names"
            )
        armed[name] = int(passes)
    _armed.clear()
    _armed.update(armed)


def hit(name: str, image: str | bytes = "") -> None:
    """Passes a point; at the pass that was asked for the process is no more.

    Args:
        name: of the point.
        image: that passes, at points that one image passes at a time: its file name, or itself.
    """
    if _armed:
        if isinstance(image, bytes):
            image = hashlib.sha256(image).hexdigest()
        for counted in (name, f"{name}@{image}"):
            _armed[counted] = _armed.get(counted, 0) - 1
            if _armed[counted] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
