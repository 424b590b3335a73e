"""What of an installation can be reached from outside: one port, and nothing behind it."""

import stat

import psutil
import pytest
from image_categorizer_server.local.installation import Installation

ADMIN_PATHS = (
    *("/config_dump", "/certs", "/clusters", "/server_info", "/stats", "/stats/prometheus"),
    *("/admin", "/listeners", "/memory", "/runtime", "/quitquitquit", "/metrics", "/debug/pprof"),
)


def test_only_the_public_port_listens(up):
    processes = [psutil.Process(up.process.pid), *up.children(recursive=True)]
    names = {process.name() for process in processes}
    assert len(processes) > 5, names
    listening = {
        tuple(connection.laddr)
        for process in processes
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    # And those that Prometheus asks: of the server, of the worker.
    _, _, metrics = up.variables["CATEGORIZER_TELEMETRY__METRICS_BIND"].rpartition(":")
    inside = {("127.0.0.1", int(metrics) + process) for process in range(2)}
    assert listening == {("127.0.0.1", up.port), *inside}


def test_the_sockets_behind_it_are_for_their_user_only(up):
    sockets = Installation(up.data).sockets
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    found = {file.name for file in sockets.iterdir() if file.is_socket()}
    assert {"envoy-admin.sock", "redis.sock", "server.sock"} <= found


@pytest.mark.parametrize("path", ADMIN_PATHS)
def test_the_administration_of_envoy_is_not_reachable(http, path):
    for method in ("GET", "POST"):
        answer = http.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["details"][0]["reason"] == "ROUTE_NOT_FOUND"
