"""LitServe: `python -m tests.bench.peers.litserve_app`.

The body is plain bytes, read by FastAPI's `Body`. For LitServe, this is cheaper than JSON with
base64 or a form, which its examples use.
"""

from typing import Annotated, Any

import litserve
from fastapi import Body

from tests.bench.peers import work


class Classify(litserve.LitAPI):
    """Decodes in the worker that predicts. LitServe offers no other place."""

    def setup(self, device: str) -> None:
        self._work = work.work()

    def decode_request(self, request: Annotated[bytes, Body()]) -> Any:
        return self._work.prepare(request)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: list[Any]) -> list[str]:
        return self._work.predict(x)

    def unbatch(self, output: list[str]) -> list[str]:
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        return {"label": output}


if __name__ == "__main__":
    api = Classify(max_batch_size=work.max_batch_size(), batch_timeout=work.WAIT_MS / 1000)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=work.workers(), fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=work.port(),
        num_api_servers=2 if work.form() == "null" else 1,
        generate_client_file=False,
        log_level="warning",
    )
