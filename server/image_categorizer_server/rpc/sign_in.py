"""AdminService: people sign in and out with a browser.

Over REST the answers are redirects and cookies.  The server states them in headers, which the
gateway turns into `:status`, `location` and `set-cookie` (see `requests.lua`).
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
from image_categorizer.v1 import sign_in_pb2

from image_categorizer_server.domain.audit import Actor, current_actor
from image_categorizer_server.errors import CredentialsInvalid
from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.services.sign_in import REFUSED, SignIns

Context = grpc.aio.ServicerContext
OK, FOUND = 200, 302
HOME = "/"


class SignInServicer:
    """Serves the RPCs of AdminService about sign-in."""

    def __init__(self, sign_ins: SignIns) -> None:
        self._sign_ins = sign_ins

    async def StartSignIn(
        self,
        request: sign_in_pb2.StartSignInRequest,
        context: Context[sign_in_pb2.StartSignInRequest, sign_in_pb2.StartSignInResponse],
    ) -> sign_in_pb2.StartSignInResponse:
        location, cookie = await self._sign_ins.start()
        await _send(context, FOUND, [cookie], location)
        return sign_in_pb2.StartSignInResponse()

    async def FinishSignIn(
        self,
        request: sign_in_pb2.FinishSignInRequest,
        context: Context[sign_in_pb2.FinishSignInRequest, sign_in_pb2.FinishSignInResponse],
    ) -> sign_in_pb2.FinishSignInResponse:
        if request.error:
            raise CredentialsInvalid(REFUSED)
        principal = await self._sign_ins.finish(_headers(context), request.code, request.state)
        current_actor.set(Actor(principal.actor_id, current_call.get().request_id))
        cookies = await self._sign_ins.create_session(principal)
        await _send(context, FOUND, cookies, HOME)
        return sign_in_pb2.FinishSignInResponse()

    async def SignOut(
        self,
        request: sign_in_pb2.SignOutRequest,
        context: Context[sign_in_pb2.SignOutRequest, sign_in_pb2.SignOutResponse],
    ) -> sign_in_pb2.SignOutResponse:
        headers = _headers(context)
        with suppress(CredentialsInvalid):  # a session that is over is ended all the same
            if principal := await self._sign_ins.authenticate(headers):
                current_actor.set(Actor(principal.actor_id, current_call.get().request_id))
        await _send(context, OK, [await self._sign_ins.end_session(headers)])
        return sign_in_pb2.SignOutResponse()


def _headers(context: Context[Any, Any]) -> dict[str, str]:
    metadata = context.invocation_metadata() or ()
    return {name: value for name, value in metadata if isinstance(value, str)}


async def _send(
    context: Context[Any, Any], status: int, cookies: Iterable[str], location: str = ""
) -> None:
    headers = [("x-http-status", str(status)), ("cache-control", "no-store")]
    headers += [("x-set-cookie", cookie) for cookie in cookies]
    if location:
        headers.append(("x-location", location))
    await context.send_initial_metadata(tuple(headers))
