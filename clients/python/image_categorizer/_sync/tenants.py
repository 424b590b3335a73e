# Generated from _aio/tenants.py by tools/sync_twin.py; do not edit.
"""The client's tenants."""

from collections.abc import Iterator

from image_categorizer import _access_wire, _wire
from image_categorizer._access_values import Tenant, TenantLimits
from image_categorizer._sync.connection import Connection
from image_categorizer._sync.listing import listing
from image_categorizer.v1 import tenant_pb2


class Tenants:
    """All tenants of the server: `client.tenants`. Needs a key of the role platform.

    A tenant owns keys, batches, webhooks and images. Tenants do not see each other.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, tenant_id: str, *, display_name: str = "") -> Tenant:
        """Creates a tenant, which has no keys yet.

            client.tenants.create("acme", display_name="Acme Corporation")

        Args:
            tenant_id: 1 to 64 lower-case letters, digits, hyphens and underscores; starts with a
                letter or a digit.
            display_name: the name for people, at most 128 characters.

        Raises:
            TenantExists: the id is taken, or the tenant that had it is still being removed.
            RoleInsufficient: the key does not have the role platform.
        """
        request = tenant_pb2.CreateTenantRequest(tenant_id=tenant_id, display_name=display_name)
        return _access_wire.tenant(
            self._connection.call_once(self._connection.stubs.admin.CreateTenant, request)
        )

    def get(self, tenant_id: str) -> Tenant:
        """Returns one tenant, also while it is being removed.

        Raises:
            TenantNotFound: there is no such tenant.
        """
        request = tenant_pb2.GetTenantRequest(tenant_id=tenant_id)
        return _access_wire.tenant(
            self._connection.call(self._connection.stubs.admin.GetTenant, request)
        )

    @listing
    def list(self) -> Iterator[Tenant]:
        """Yields all tenants, by id.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = tenant_pb2.ListTenantsRequest(page_size=_wire.PAGE_SIZE)
        for page in self._connection.pages(self._connection.stubs.admin.ListTenants, request):
            for wire in page.tenants:
                yield _access_wire.tenant(wire)

    def update(
        self,
        tenant_id: str,
        *,
        display_name: str | None = None,
        limits: TenantLimits | None = None,
    ) -> Tenant:
        """Changes the arguments that are not None.

            client.tenants.update("acme", limits={"images_per_day": 10_000})

        Args:
            tenant_id: the tenant.
            display_name: the new name for people, at most 128 characters.
            limits: all limits that the tenant has instead of those of the settings; {} for none.

        Raises:
            TenantNotFound: there is no such tenant, or it is being removed.
            InvalidRequest: the name or a limit is not valid.
            TypeError: there is no such limit.
        """
        request = _access_wire.update_tenant_request(tenant_id, display_name, limits)
        return _access_wire.tenant(
            self._connection.call(self._connection.stubs.admin.UpdateTenant, request)
        )

    def suspend(self, tenant_id: str) -> Tenant:
        """Refuses the tenant's credentials within 5 seconds; its batches wait.

        Raises:
            TenantNotFound: there is no such tenant, or it is being removed.
            InvalidRequest: it is `default`, or the tenant of this key.
        """
        request = tenant_pb2.SuspendTenantRequest(tenant_id=tenant_id)
        return _access_wire.tenant(
            self._connection.call(self._connection.stubs.admin.SuspendTenant, request)
        )

    def resume(self, tenant_id: str) -> Tenant:
        """Ends a suspension: the credentials are accepted again, and batches go on.

        Raises:
            TenantNotFound: there is no such tenant, or it is being removed.
        """
        request = tenant_pb2.ResumeTenantRequest(tenant_id=tenant_id)
        return _access_wire.tenant(
            self._connection.call(self._connection.stubs.admin.ResumeTenant, request)
        )

    def delete(self, tenant_id: str) -> Tenant:
        """Deletes a tenant and everything that it has. This cannot be undone.

        Its credentials are unknown within 5 seconds. The rest is removed in the background;
        meanwhile the tenant is DELETING.

        Raises:
            TenantNotFound: there is no such tenant.
            InvalidRequest: it is `default`, or the tenant of this key.
        """
        request = tenant_pb2.DeleteTenantRequest(tenant_id=tenant_id)
        return _access_wire.tenant(
            self._connection.call(self._connection.stubs.admin.DeleteTenant, request)
        )
