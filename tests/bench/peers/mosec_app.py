"""mosec: `python -m tests.bench.peers.mosec_app --address 127.0.0.1 --port PORT`.

One stage decodes and predicts, with one process per core. Two stages would copy each decoded image
from process to process.
"""

from typing import Any

from mosec import Server, Worker
from mosec.errors import ValidationError

from tests.bench.peers import work


class Classify(Worker):
    """Bytes in, a label out."""

    def __init__(self) -> None:
        super().__init__()
        self._work = work.work()

    def deserialize(self, data: bytes) -> Any:
        try:
            return self._work.prepare(data)
        except Exception as error:
            raise ValidationError("not an image") from error

    def forward(self, data: list[Any]) -> list[str]:
        return self._work.predict(data)

    def serialize(self, data: str) -> bytes:
        return data.encode()


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Classify,
        num=work.workers(),
        max_batch_size=work.max_batch_size(),
        max_wait_time=work.WAIT_MS,
        timeout=30,
    )
    server.run()
