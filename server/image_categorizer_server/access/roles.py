"""The least role that each RPC asks for; one without a row is refused."""

from image_categorizer_server.domain.access import Principal, Role
from image_categorizer_server.errors import RoleInsufficient

PACKAGE = "/image_categorizer.v1"
LEAST_ROLE: dict[str, Role] = {
    f"{PACKAGE}.ClassifyService/Classify": Role.CLASSIFIER,
    f"{PACKAGE}.ClassifyService/ClassifyUpload": Role.CLASSIFIER,
    f"{PACKAGE}.ClassifyService/ClassifyStream": Role.CLASSIFIER,
    f"{PACKAGE}.BatchService/CreateBatch": Role.CLASSIFIER,
    f"{PACKAGE}.BatchService/UploadBatch": Role.CLASSIFIER,
    f"{PACKAGE}.BatchService/UploadBatchForm": Role.CLASSIFIER,
    f"{PACKAGE}.BatchService/GetBatch": Role.VIEWER,
    f"{PACKAGE}.BatchService/ListBatches": Role.VIEWER,
    f"{PACKAGE}.BatchService/CancelBatch": Role.CLASSIFIER,
    f"{PACKAGE}.BatchService/RetryBatch": Role.CLASSIFIER,
    f"{PACKAGE}.BatchService/DeleteBatch": Role.CLASSIFIER,
    f"{PACKAGE}.BatchService/ListBatchResults": Role.VIEWER,
    f"{PACKAGE}.BatchService/ExportBatchResults": Role.VIEWER,
    f"{PACKAGE}.BatchService/WatchBatch": Role.VIEWER,
    f"{PACKAGE}.MetadataService/ListCategories": Role.VIEWER,
    f"{PACKAGE}.MetadataService/ListModels": Role.VIEWER,
    f"{PACKAGE}.MetadataService/GetModel": Role.VIEWER,
    f"{PACKAGE}.MetadataService/GetServerInfo": Role.VIEWER,
    f"{PACKAGE}.MetadataService/LoadModel": Role.ADMIN,
    f"{PACKAGE}.MetadataService/UnloadModel": Role.ADMIN,
    f"{PACKAGE}.MetadataService/SetModelAlias": Role.ADMIN,
    f"{PACKAGE}.AdminService/CreateWebhook": Role.OPERATOR,
    f"{PACKAGE}.AdminService/GetWebhook": Role.OPERATOR,
    f"{PACKAGE}.AdminService/ListWebhooks": Role.OPERATOR,
    f"{PACKAGE}.AdminService/UpdateWebhook": Role.OPERATOR,
    f"{PACKAGE}.AdminService/DeleteWebhook": Role.OPERATOR,
    f"{PACKAGE}.AdminService/RotateWebhookSecret": Role.OPERATOR,
    f"{PACKAGE}.AdminService/ListWebhookDeliveries": Role.OPERATOR,
    f"{PACKAGE}.AdminService/RedeliverWebhook": Role.OPERATOR,
}
OF_WORKERS = frozenset(
    {
        f"{PACKAGE}.ClassifyService/ClassifyStream",
        f"{PACKAGE}.MetadataService/GetServerInfo",
    }
)
PUBLIC = frozenset(
    {
        f"{PACKAGE}.HealthService/GetLiveness",
        f"{PACKAGE}.HealthService/GetReadiness",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.health.v1.Health/List",
        # Registered only where the operator asked for it.
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)


def is_public(method: str) -> bool:
    """Returns whether the RPC asks for no credentials."""
    return method in PUBLIC


def authorize(principal: Principal, method: str) -> None:
    """Passes a principal whose role suffices for the RPC.

    Raises:
        RoleInsufficient: the role is too small, or the RPC has no row here.
    """
    if principal.role is Role.WORKER and method in OF_WORKERS:
        return
    least = LEAST_ROLE.get(method)
    if least is None or principal.role < least:
        wanted = least.name.lower() if least else "nobody's"
        raise RoleInsufficient(
            f"the role '{principal.role.name.lower()}' may not call "
            f"{method.rpartition('/')[2]}; it takes '{wanted}'"
        )
