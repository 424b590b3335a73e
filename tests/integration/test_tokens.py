"""Access tokens against a running server, whose issuer answers over HTTP."""

import asyncio
import json
import threading

import grpc
import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    DependencyDown,
    ImageCategorizationClient,
    RoleInsufficient,
)
from image_categorizer.v1 import metadata_pb2, metadata_pb2_grpc
from image_categorizer_server import clock
from image_categorizer_server.domain.access import Role

from tests.integration.conftest import running_server
from tests.support.bad_tokens import bad_tokens
from tests.support.hosts import PRIVATE, Host, endless, running_host
from tests.support.issuer import AUDIENCE, Published, claims, header, new_key, signed
from tests.support.pictures import jpeg
from tests.support.polling import eventually
from tests.support.up import COMMAND

PICTURE = jpeg(64, 48)


class Issuer:
    """An issuer over HTTP; `published` says what it answers."""

    def __init__(self) -> None:
        self.published = Published()
        self.host = Host(self.answer)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.host.port}"

    @property
    def reads(self) -> int:
        return sum(b"GET /keys " in head for head in self.host.heads)

    async def answer(self, visit) -> None:
        if self.published.is_down:
            visit.writer.close()
            return
        if b"GET /keys " in visit.head:
            await visit.send("200 OK", self.published.key_set())
        elif b"openid-configuration" in visit.head:
            document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
            await visit.send("200 OK", json.dumps(document).encode())
        else:
            await visit.send("404 Not Found")

    def token(self, **changes: object) -> str:
        return self.published.token(**({"iss": self.url} | changes))


def settings_of(url: str, **changes: object) -> dict[str, object]:
    issuer = {
        "name": "main",
        "issuer": url,
        "audiences": [AUDIENCE],
        "roles": {"ic-classifier": "classifier", "ic-admin": "admin"},
    }
    return {
        "issuers": [issuer | changes],
        "allow_http": True,
        "allowed_networks": ["127.0.0.0/8"],
        "timeout_s": 2,
    }


@pytest.fixture
async def issuer():
    issuer = Issuer()
    async with issuer.host.running(PRIVATE):
        yield issuer


@pytest.fixture
def with_issuer(settings, issuer):
    """The settings of a server that accepts the issuer's tokens."""
    return type(settings)(**{**dict(settings), "token": settings_of(issuer.url)})


async def test_a_token_classifies_as_a_key_does(with_issuer, issuer):
    async with running_server(with_issuer) as server:
        async with AsyncImageCategorizationClient(issuer.token(), server.address) as client:
            assert (await client.classify_image(PICTURE)).predictions
            with pytest.raises(RoleInsufficient, match="'classifier'"):
                await client.webhooks.create("https://a.example")
        async with await server.client() as client:
            assert (await client.classify_image(PICTURE)).predictions


async def test_no_bad_token_is_accepted_and_each_gets_the_same_answer(with_issuer, issuer):
    async with running_server(with_issuer) as server:
        key = issuer.published.keys[0]
        answers = {}
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = metadata_pb2_grpc.MetadataServiceStub(channel).GetServerInfo
            request = metadata_pb2.GetServerInfoRequest()
            good = (("authorization", f"Bearer {issuer.token()}"),)
            await call(request, metadata=good)
            for name, token in bad_tokens(key):
                if not token.isascii() or len(token) > 60_000:
                    continue
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(request, metadata=(("authorization", f"Bearer {token}"),))
                answers[name] = caught.value.code(), caught.value.details()
            await call(request, metadata=good)
        assert len(answers) >= 60
        alike = grpc.StatusCode.UNAUTHENTICATED, "the access token is not valid"
        assert {name: answer for name, answer in answers.items() if answer != alike} == {}


async def test_of_two_authorization_headers_none_counts(with_issuer, issuer):
    async with running_server(with_issuer) as server:
        key = await server.key(Role.CLASSIFIER)
        token = issuer.token()
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = metadata_pb2_grpc.MetadataServiceStub(channel).GetServerInfo
            for one, other in ((token, key), (key, token), (token, token), (key, key)):
                headers = (("authorization", f"Bearer {one}"), ("authorization", f"Bearer {other}"))
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(metadata_pb2.GetServerInfoRequest(), metadata=headers)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_thousand_unknown_keys_read_the_key_set_once(with_issuer, issuer):
    async with (
        running_server(with_issuer, load=False) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = metadata_pb2_grpc.MetadataServiceStub(channel).GetServerInfo
        request = metadata_pb2.GetServerInfoRequest()
        await call(request, metadata=(("authorization", f"Bearer {issuer.token()}"),))
        before = issuer.reads

        async def ask(number: int) -> grpc.StatusCode:
            forged = signed(
                header(kid=f"x{number}"), claims(iss=issuer.url), issuer.published.keys[0], "ES256"
            )
            try:
                await call(request, metadata=(("authorization", f"Bearer {forged}"),))
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        codes = await asyncio.gather(*map(ask, range(1000)))
        assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}
        assert issuer.reads - before <= 3


async def test_while_the_issuer_is_down_known_keys_and_api_keys_go_on(with_issuer, issuer):
    async with running_server(with_issuer) as server:
        async with AsyncImageCategorizationClient(issuer.token(), server.address) as client:
            await client.server_info()
        issuer.published.stop()
        clock.shift(3700)
        try:
            fresh = issuer.token()
            async with AsyncImageCategorizationClient(fresh, server.address) as client:
                await client.server_info()
        finally:
            clock.shift(0)
        async with await server.client() as client:
            await client.server_info()


async def test_without_the_issuers_keys_tokens_wait_and_api_keys_work(with_issuer, issuer):
    issuer.published.stop()
    async with running_server(with_issuer) as server:
        client = AsyncImageCategorizationClient(issuer.token(), server.address, timeout_s=5)
        async with client:
            with pytest.raises(DependencyDown) as caught:
                await client.server_info()
            assert caught.value.status == "UNAVAILABLE"
            assert caught.value.retry_after_s > 0
        async with await server.client() as client:
            await client.server_info()


async def test_an_issuer_that_never_ends_its_answer_does_no_harm(settings):
    async with running_host(endless, address=PRIVATE) as host:
        url = f"http://localhost:{host.port}"
        given = type(settings)(**{**dict(settings), "token": settings_of(url)})
        async with running_server(given) as server:
            token = Published().token(iss=url)
            async with AsyncImageCategorizationClient(token, server.address, timeout_s=5) as client:
                with pytest.raises(DependencyDown):
                    await client.server_info()
            async with await server.client() as client:
                await client.server_info()


async def test_an_issuer_in_a_private_network_needs_a_setting(settings, issuer):
    token = {**settings_of(issuer.url), "allowed_networks": []}
    given = type(settings)(**{**dict(settings), "token": token})
    async with running_server(given, load=False) as server:
        client = AsyncImageCategorizationClient(issuer.token(), server.address, timeout_s=5)
        async with client:
            with pytest.raises(DependencyDown):
                await client.server_info()
    assert issuer.host.heads == []


async def test_a_new_key_is_accepted_while_the_server_runs(with_issuer, issuer):
    async with running_server(with_issuer, load=False) as server:
        async with AsyncImageCategorizationClient(issuer.token(), server.address) as client:
            await client.server_info()
        issuer.published.keys.insert(0, new_key("k2"))
        clock.shift(26)
        try:
            async with AsyncImageCategorizationClient(issuer.token(), server.address) as client:
                await client.server_info()
        finally:
            clock.shift(0)


async def test_clients_ask_their_provider_for_each_call(with_issuer, issuer):
    async with running_server(with_issuer) as server:
        tokens = [issuer.token() for _ in range(3)]

        async def next_token():
            return tokens.pop(0)

        async with AsyncImageCategorizationClient(
            base_url=server.address, token_provider=next_token
        ) as client:
            await client.server_info()
            assert (await client.classify_image(PICTURE)).predictions
        assert len(tokens) == 1

        def ordinary():
            with ImageCategorizationClient(
                base_url=server.address, token_provider=issuer.token
            ) as client:
                return client.classify_image(PICTURE), list(
                    client.classify_stream([("a", PICTURE)])
                )

        classification, streamed = await asyncio.to_thread(ordinary)
        assert classification.predictions
        assert streamed[0].classification


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_stream_whose_token_expires_goes_on_with_the_next(with_issuer, issuer, is_async):
    """The token of the first call is of a key that the issuer withdraws after two answers."""
    now = int(clock.now().timestamp())
    async with running_server(with_issuer) as server:
        short = issuer.token(iat=now - 40, exp=now - 27)  # within the leeway, for three seconds
        given = []

        def next_token():
            given.append(short if not given else issuer.token())
            return given[-1]

        def slowly():
            yield "first", PICTURE
            expired.wait(10)
            for number in range(5):
                yield str(number), PICTURE

        expired = threading.Event()

        async def expire() -> None:
            await eventually(lambda: clock.now().timestamp() > now + 4.5, 10)
            expired.set()

        def classify():
            with ImageCategorizationClient(
                base_url=server.address, token_provider=next_token
            ) as client:
                return sorted(result.key for result in client.classify_stream(slowly()))

        async def classify_async():
            async def sources():
                for source in ("first", PICTURE), *((str(n), PICTURE) for n in range(5)):
                    if source[0] == "0":
                        await asyncio.to_thread(expired.wait, 10)
                    yield source

            async with AsyncImageCategorizationClient(
                base_url=server.address, token_provider=next_token
            ) as client:
                return sorted([result.key async for result in client.classify_stream(sources())])

        async with asyncio.TaskGroup() as group:
            group.create_task(expire())
            work = classify_async() if is_async else asyncio.to_thread(classify)
            keys = await work
        assert keys == ["0", "1", "2", "3", "4", "first"]
        assert len(given) >= 2


@pytest.mark.slow
async def test_explain_says_what_the_server_would_do(with_issuer, issuer, monkeypatch):
    async def explained(token: str, given: bytes | None = None) -> tuple[int, str]:
        variables = {
            "CATEGORIZER_TOKEN__ISSUERS": json.dumps(settings_of(issuer.url)["issuers"]),
            "CATEGORIZER_TOKEN__ALLOW_HTTP": "true",
            "CATEGORIZER_TOKEN__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("access", "explain", token),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate(given)
        assert process.returncode is not None
        return process.returncode, output.decode()

    token = issuer.token()
    status, text = await explained(token)
    assert status == 0, text
    for words in ("main:ada", "role is classifier", "ClassifyService.Classify", "accepted"):
        assert words in text
    assert "Webhook" not in text
    assert "GetLiveness" not in text
    assert token.rpartition(".")[2] not in text
    status, text = await explained("-", f"Bearer {token}\n".encode())
    assert status == 0, text
    for bad, words in (
        (issuer.token(aud="another"), "aud is 'another'"),
        (issuer.token(roles=["x"]), "no value of the claim 'roles' is mapped"),
        ("x", "three parts"),
        ("ic_x", "API key"),
        (issuer.token(iss="https://evil.example"), "not configured"),
    ):
        status, text = await explained(bad)
        assert status == 1, text
        assert words in text
        assert "Traceback" not in text
    issuer.published.stop()
    status, text = await explained(token)
    assert status == 1
    assert "keys of main cannot be read" in text
