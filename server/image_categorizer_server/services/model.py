"""Models and categories of the server, orders about them, and the limits of the server."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType

from image_categorizer_server import clock
from image_categorizer_server.domain.audit import AuditAction, NewEvent, current_actor
from image_categorizer_server.domain.classification import Category
from image_categorizer_server.domain.model import ModelStatus, ServerInfo
from image_categorizer_server.inference.images.formats import readable_formats
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.paging import Page, page_of
from image_categorizer_server.settings import Settings
from image_categorizer_server.version import VERSION


class Models:
    """Lists and changes the models of the server."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        record: Callable[[Sequence[NewEvent]], Awaitable[None]],
    ) -> None:
        """Configures it.

        Args:
            registry: holds the models.
            settings: of the server.
            record: writes events to the audit; see `db.audit.append`.
        """
        self._registry = registry
        self._settings = settings
        self._record = record

    def list_models(self, page_size: int, page_token: str) -> Page[ModelStatus]:
        """Returns all model versions, by name and number.

        Raises:
            InvalidRequest: `page_size` or `page_token` is not valid.
        """
        return page_of(self._registry.statuses(), page_size, page_token)

    def get_model(self, name: str, version: int | str | None) -> ModelStatus:
        """Returns one model version.

        Args:
            name: the model.
            version: a number or an alias; None for the version that answers, or the newest if none
                does.

        Raises:
            ModelNotFound: there is no such model or version.
        """
        return self._registry.status(name, version)

    async def load_model(self, tenant_id: str, name: str, version: int | None) -> ModelStatus:
        """Loads one version, or the newest without `version`; see `Registry.load`."""
        await self._record_order(tenant_id, AuditAction.MODEL_LOAD, name, version)
        return await self._registry.load(name, version)

    async def unload_model(self, tenant_id: str, name: str, version: int | str) -> ModelStatus:
        """Unloads one version; see `Registry.unload`."""
        await self._record_order(tenant_id, AuditAction.MODEL_UNLOAD, name, version)
        return await self._registry.unload(name, version)

    async def set_alias(
        self, tenant_id: str, name: str, alias: str, version: int | None, canary_percent: float
    ) -> ModelStatus:
        """Points an alias to a version, or removes it; see `Registry.set_alias`."""
        permille = round(canary_percent * 10)
        detail = {"alias": alias, "canary_permille": permille}
        await self._record_order(tenant_id, AuditAction.MODEL_SET_ALIAS, name, version, detail)
        return await self._registry.set_alias(name, alias, version, canary_percent)

    async def _record_order(
        self,
        tenant_id: str,
        action: AuditAction,
        name: str,
        version: int | str | None,
        detail: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Writes down who orders what, before it is done: without the audit nothing changes.

        Raises:
            ModelNotFound: there is no such model or version.
            DependencyDown: the repository or the database does not answer.
        """
        await self._registry.refresh()
        self._registry.status(name, version)  # so the name is not a text of the caller's
        given = {"version": "" if version is None else str(version), **detail}
        actor = current_actor.get()
        await self._record([NewEvent(tenant_id, clock.now(), actor, action, name, detail=given)])

    def list_categories(
        self, name: str, version: int | str | None, page_size: int, page_token: str
    ) -> Page[Category]:
        """Returns the categories of a model, in the order of its outputs.

        Raises:
            ModelNotFound: there is no such model or version.
            InvalidRequest: `page_size` or `page_token` is not valid.
        """
        status = self.get_model(name or self._registry.default, version)
        return page_of(status.categories, page_size, page_token)

    def server_info(self) -> ServerInfo:
        """Returns the release, the image formats and the limits of the server."""
        limits, server = self._settings.limits, self._settings.server
        return ServerInfo(
            version=VERSION,
            image_formats=readable_formats(),
            default_model=self._registry.default,
            max_image_bytes=self._settings.max_image_bytes,
            max_image_pixels=limits.max_image_pixels,
            max_side_px=limits.max_side_px,
            max_aspect_ratio=limits.max_aspect_ratio,
            max_filter_categories=limits.max_filter_categories,
            default_deadline_s=server.default_deadline_s,
            max_deadline_s=server.max_deadline_s,
            max_stream_in_flight=server.max_stream_in_flight,
            max_batch_items=self._settings.batch.max_items,
            max_batch_bytes=self._settings.batch.max_bytes,
        )
