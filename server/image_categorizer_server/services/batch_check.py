"""What a batch must pass before its upload is read: model, filters, webhook."""

from image_categorizer_server.db import category as category_rows
from image_categorizer_server.domain.batch import BatchConfig
from image_categorizer_server.inference.classifier import filters_of
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.services.webhook import Webhooks


async def check_batch(
    registry: Registry, webhooks: Webhooks, tenant_id: str, config: BatchConfig
) -> None:
    """Passes a batch whose images can be classified now, and whose webhook may be called.

    Raises:
        ModelNotFound: no such model or version.
        ModelLoading: the model is loading.
        ModelFailed: the model is not serving.
        CategoryNotFound: a filter names a category that neither model nor tenant has.
        DependencyDown: the database does not answer.
        InvalidRequest: the server may not call `webhook_url`.
    """
    options = config.options
    tree = registry.tree(options.model, options.version)
    has_filters = options.include_categories or options.exclude_categories
    own = await category_rows.names(tenant_id) if has_filters else frozenset()
    filters_of(options.model or registry.default, tree, options, own)
    if config.webhook_url:
        await webhooks.check_url(config.webhook_url, "webhook_url")
