"""AdminService: tenants, for operators of the platform."""

import grpc
from image_categorizer.v1 import tenant_pb2

from image_categorizer_server.domain.tenant import TENANT_ID, Tenant
from image_categorizer_server.errors import TenantNotFound
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.convert import timestamp
from image_categorizer_server.rpc.validation import raise_if_any, required
from image_categorizer_server.services import tenant as tenants

Context = grpc.aio.ServicerContext


class TenantServicer:
    """Serves the RPCs of AdminService about tenants."""

    async def CreateTenant(
        self,
        request: tenant_pb2.CreateTenantRequest,
        context: Context[tenant_pb2.CreateTenantRequest, tenant_pb2.Tenant],
    ) -> tenant_pb2.Tenant:
        return _tenant(await tenants.create_tenant(request.tenant_id, request.display_name))

    async def GetTenant(
        self,
        request: tenant_pb2.GetTenantRequest,
        context: Context[tenant_pb2.GetTenantRequest, tenant_pb2.Tenant],
    ) -> tenant_pb2.Tenant:
        return _tenant(await tenants.get_tenant(_tenant_id(request.tenant_id)))

    async def ListTenants(
        self,
        request: tenant_pb2.ListTenantsRequest,
        context: Context[tenant_pb2.ListTenantsRequest, tenant_pb2.ListTenantsResponse],
    ) -> tenant_pb2.ListTenantsResponse:
        # A thousand tenants take far fewer bytes than a message may have.
        page = await tenants.list_tenants(request.page_size, request.page_token)
        return tenant_pb2.ListTenantsResponse(
            tenants=map(_tenant, page.items), next_page_token=page.next_page_token
        )

    async def UpdateTenant(
        self,
        request: tenant_pb2.UpdateTenantRequest,
        context: Context[tenant_pb2.UpdateTenantRequest, tenant_pb2.Tenant],
    ) -> tenant_pb2.Tenant:
        return _tenant(
            await tenants.update_tenant(
                _tenant_id(request.tenant_id),
                request.display_name if request.HasField("display_name") else None,
                _limits(request.limits) if request.HasField("limits") else None,
            )
        )

    async def SuspendTenant(
        self,
        request: tenant_pb2.SuspendTenantRequest,
        context: Context[tenant_pb2.SuspendTenantRequest, tenant_pb2.Tenant],
    ) -> tenant_pb2.Tenant:
        tenant_id = _tenant_id(request.tenant_id)
        return _tenant(await tenants.suspend_tenant(tenant_id, current_tenant()))

    async def ResumeTenant(
        self,
        request: tenant_pb2.ResumeTenantRequest,
        context: Context[tenant_pb2.ResumeTenantRequest, tenant_pb2.Tenant],
    ) -> tenant_pb2.Tenant:
        return _tenant(await tenants.resume_tenant(_tenant_id(request.tenant_id)))

    async def DeleteTenant(
        self,
        request: tenant_pb2.DeleteTenantRequest,
        context: Context[tenant_pb2.DeleteTenantRequest, tenant_pb2.Tenant],
    ) -> tenant_pb2.Tenant:
        tenant_id = _tenant_id(request.tenant_id)
        return _tenant(await tenants.delete_tenant(tenant_id, current_tenant()))


def _tenant_id(text: str) -> str:
    wrong: list[tuple[str, str]] = []
    required("tenant_id", text, wrong)
    raise_if_any(wrong)
    if not TENANT_ID.fullmatch(text):
        raise TenantNotFound("no such tenant")
    return text


def _limits(message: tenant_pb2.TenantLimits) -> dict[str, object]:
    return {field.name: value for field, value in message.ListFields()}


def _tenant(value: Tenant) -> tenant_pb2.Tenant:
    return tenant_pb2.Tenant(
        tenant_id=value.tenant_id,
        display_name=value.display_name,
        state=tenant_pb2.Tenant.State.Value(value.state.value),
        create_time=timestamp(value.create_time),
        delete_time=timestamp(value.delete_time),
        limits=tenant_pb2.TenantLimits(**value.limits),  # type: ignore[arg-type]  # as stored
    )
