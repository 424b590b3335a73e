"""TLS of the gateway: towards its clients, and towards the servers.

Envoy gets its certificates by files of its secret discovery service (SDS), one for each secret:
only then does it read them again when they change. It notices files that are moved to their place.
"""

from pathlib import Path
from typing import Any

import yaml

from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.encryption import InternalTlsSettings

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
PUBLIC, GATEWAY, AUTHORITY = "public", "gateway", "authority"
PARAMETERS = {"tls_minimum_protocol_version": "TLSv1_2"}
Json = dict[str, Any]


def write_secrets(settings: Settings, folder: Path) -> None:
    """Writes the files that say where Envoy finds certificates, keys and authorities."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, secret in _secrets(settings).items():
        resource = {"@type": f"{TLS}.Secret", "name": name, **secret}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"resources": [resource]}))


def encrypt(config: Json, settings: Settings, folder: Path) -> None:
    """Adds TLS to Envoy's configuration, where the settings ask for it.

    Args:
        config: of Envoy, with one listener of one filter chain, and one cluster.
        settings: of the installation.
        folder: where `write_secrets` has written.
    """
    (listener,) = config["static_resources"]["listeners"]
    (cluster,) = config["static_resources"]["clusters"]
    if settings.gateway.tls_cert_path:
        (chain,) = listener["filter_chains"]
        chain["transport_socket"] = _socket("DownstreamTlsContext", _downstream(folder))
    if settings.internal_tls.path:
        context = _upstream(settings.internal_tls, folder)
        cluster["transport_socket"] = _socket("UpstreamTlsContext", context)


def _secrets(settings: Settings) -> dict[str, Json]:
    found = {}
    if settings.gateway.tls_cert_path:
        public = Path(settings.gateway.tls_cert_path), Path(settings.gateway.tls_key_path)
        found[PUBLIC] = _pair(*public)
    if settings.internal_tls.path:
        files = settings.internal_tls.files("gateway")
        found[GATEWAY] = _pair(files.certificate, files.key)
        found[AUTHORITY] = {
            "validation_context": {"trusted_ca": _file(files.ca), **_watch(files.ca)}
        }
    return found


def _pair(certificate: Path, key: Path) -> Json:
    chain = {"certificate_chain": _file(certificate), "private_key": _file(key)}
    return {"tls_certificate": {**chain, **_watch(certificate)}}


def _file(path: Path) -> Json:
    return {"filename": str(path.absolute())}


def _watch(file: Path) -> Json:
    return {"watched_directory": {"path": str(file.absolute().parent)}}


def _downstream(folder: Path) -> Json:
    return {
        "common_tls_context": {
            "tls_params": PARAMETERS,
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [_secret(PUBLIC, folder)],
        }
    }


def _upstream(settings: InternalTlsSettings, folder: Path) -> Json:
    names = [{"san_type": "DNS", "matcher": {"exact": settings.server_name}}]
    return {
        "sni": settings.server_name,
        "common_tls_context": {
            "tls_params": PARAMETERS,
            "tls_certificate_sds_secret_configs": [_secret(GATEWAY, folder)],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": names},
                "validation_context_sds_secret_config": _secret(AUTHORITY, folder),
            },
        },
    }


def _secret(name: str, folder: Path) -> Json:
    source = {"path": str(folder / f"{name}.yaml")}
    return {
        "name": name,
        "sds_config": {"resource_api_version": "V3", "path_config_source": source},
    }


def _socket(kind: str, context: Json) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": f"{TLS}.{kind}", **context},
    }
