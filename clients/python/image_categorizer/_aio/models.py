"""The asyncio client's models."""

from datetime import date

from image_categorizer import _drift_wire, _wire
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._drift_values import Drift
from image_categorizer._values import Category, Model
from image_categorizer.v1 import drift_pb2, metadata_pb2

Categories = list[Category]  # in the class, `list` is a method


class AsyncModels:
    """The models of the server: `client.models`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(self) -> list[Model]:
        """Returns every version of every model, by name and version.

            for model in await client.models.list():
                print(model.name, model.version, model.state)

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = metadata_pb2.ListModelsRequest(page_size=_wire.PAGE_SIZE)
        pages = self._connection.pages(self._connection.stubs.metadata.ListModels, request)
        return [_wire.model(wire) async for page in pages for wire in page.models]

    async def get(self, model: str, version: str | int = "") -> Model:
        """Returns one version of a model.

        Args:
            model: the model's name.
            version: a number or an alias. Default: the version that answers requests without one.

        Raises:
            ModelNotFound: there is no such model or version.
        """
        request = metadata_pb2.GetModelRequest(model=model, version=_wire.version_text(version))
        return _wire.model(
            await self._connection.call(self._connection.stubs.metadata.GetModel, request)
        )

    async def load(self, model: str, version: str | int = "") -> Model:
        """Loads one version, and returns it once it answers. Needs the role admin.

        The first load of a version may take longer than the client's `timeout_s`; it continues on
        the server.

        Args:
            model: the model's name.
            version: a number. Default: the newest.

        Raises:
            ModelNotFound: the model repository has no such version.
            ModelFailed: the version cannot be loaded; the message gives the reason.
            RoleInsufficient: the key does not have the role admin.
        """
        request = metadata_pb2.LoadModelRequest(model=model, version=_wire.version_text(version))
        return _wire.model(
            await self._connection.call(self._connection.stubs.metadata.LoadModel, request)
        )

    async def unload(self, model: str, version: str | int) -> Model:
        """Stops serving one version, and frees its memory. Needs the role admin.

        Returns after the version has answered the requests that it had accepted.

        Args:
            model: the model's name.
            version: a number or an alias.

        Raises:
            ModelNotFound: there is no such model or version.
            ModelInUse: an alias points to the version, or the default model has no other.
            RoleInsufficient: the key does not have the role admin.
        """
        request = metadata_pb2.UnloadModelRequest(model=model, version=_wire.version_text(version))
        return _wire.model(
            await self._connection.call(self._connection.stubs.metadata.UnloadModel, request)
        )

    async def set_alias(
        self, model: str, alias: str, version: str | int, *, canary_percent: float = 0.0
    ) -> Model:
        """Points an alias to a version. Needs the role admin.

            await client.models.set_alias("resnet50", "canary", 3, canary_percent=5)

        Args:
            model: the model's name.
            alias: `stable`, `canary` or any other name.
            version: a number. An empty string removes the alias.
            canary_percent: for the alias `canary`: the percentage of requests without a version
                that this version answers, in [0, 100].

        Returns:
            The version. If the alias was removed: the one that answers requests without a version.

        Raises:
            ModelNotFound: there is no such version.
            ModelFailed: the version is not ready.
            PromotionRefused: the model has a promotion policy, and the version has not passed it.
            RoleInsufficient: the key does not have the role admin.
        """
        request = metadata_pb2.SetModelAliasRequest(
            model=model,
            alias=alias,
            version=_wire.version_text(version),
            canary_percent=canary_percent,
        )
        return _wire.model(
            await self._connection.call(self._connection.stubs.metadata.SetModelAlias, request)
        )

    async def categories(self, model: str = "", version: str | int = "") -> "Categories":
        """Returns the categories of a model, in the model's order.

        Args:
            model: the model's name. Default: the server's default model.
            version: a number or an alias. Default: the version that answers requests without one.

        Raises:
            ModelNotFound: there is no such model or version.
        """
        request = metadata_pb2.ListCategoriesRequest(
            model=model, version=_wire.version_text(version), page_size=_wire.PAGE_SIZE
        )
        pages = self._connection.pages(self._connection.stubs.metadata.ListCategories, request)
        return [_wire.category(wire) async for page in pages for wire in page.categories]

    async def drift(
        self,
        model: str,
        version: str | int = "",
        *,
        end_date: date | None = None,
        window_days: int = 1,
        reference: tuple[date, date] | None = None,
    ) -> Drift:
        """Returns whether what a version predicts has changed, in the caller's tenant.

            drift = await client.models.drift("efficientnet_lite0")
            print(drift.state, drift.category_index)

        Args:
            model: the model's name.
            version: a number or an alias. Default: the version that answers requests without one.
            end_date: the last day of the window, in UTC. Default: today.
            window_days: the days of the window, at most 7. With fewer than 100 images it grows.
            reference: the first and the last day to compare with. Default: 30 to 7 days before
                `end_date`.

        Raises:
            ModelNotFound: there is no such model or version.
            InvalidRequest: the reference is not before the window, or too long.
        """
        first, last = reference or ("", "")
        request = drift_pb2.GetDriftRequest(
            model=model,
            version=_wire.version_text(version),
            end_date=str(end_date or ""),
            window_days=window_days,
            reference_start_date=str(first),
            reference_end_date=str(last),
        )
        return _drift_wire.drift(
            await self._connection.call(self._connection.stubs.metadata.GetDrift, request)
        )
