"""When certificates expire, for the metrics."""

import math
from datetime import UTC, datetime, timedelta

import trustme
from image_categorizer_server.access.certificate import expiry_s, show_certificates
from image_categorizer_server.settings import Settings
from image_categorizer_server.telemetry.metrics import REGISTRY

NAME = "categorizer_certificate_expiry_timestamp_seconds"


def shown(name: str) -> float | None:
    return REGISTRY.get_sample_value(NAME, {"certificate": name})


def test_the_metrics_show_when_a_certificate_expires_also_after_its_renewal(tmp_path):
    file, authority = tmp_path / "cert.pem", trustme.CA()
    settings = Settings(gateway={"tls_cert_path": str(file), "tls_key_path": str(file)})
    show_certificates(settings, "server")
    assert math.isnan(shown("gateway") or 0)
    for days in (3, 90):
        end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
        issued = authority.issue_cert("gateway.example", not_after=end)
        issued.cert_chain_pems[0].write_to_path(file)
        assert shown("gateway") == end.timestamp()


def test_a_file_that_is_no_certificate_has_no_time(tmp_path):
    (tmp_path / "text").write_text("no certificate")
    assert math.isnan(expiry_s(tmp_path / "text"))
    assert math.isnan(expiry_s(tmp_path))
