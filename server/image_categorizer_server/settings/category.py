"""Settings of categories that tenants teach by examples."""

from pydantic import Field

from image_categorizer_server.settings.group import Group


class CategorySettings(Group):
    """Categories of one's own: what tenants teach by examples."""

    min_similarity: float = Field(
        0.45,
        gt=0,
        le=1,
        description="How similar an image must at least be to the mean of a category's examples to "
        "get the category: the cosine of the angle between their embeddings. Similar examples ask "
        "for more.",
    )
    max_categories: int = Field(
        200, ge=1, le=1000, description="How many categories of its own a tenant may have."
    )
    max_examples: int = Field(
        5000,
        ge=1,
        le=20_000,
        description="How many examples a tenant may have, in all its categories.",
    )
    min_linear_examples: int = Field(
        5,
        ge=5,
        description="How many examples each category needs before a logistic regression is tried.",
    )
    max_flips_per_category: int = Field(
        20_000,
        ge=0,
        le=20_000,
        description="Maximum number of held-out examples of one category that the present head has "
        "right and a new one wrong. The default is as many as there may be.",
    )
    fit_delay_s: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="For how long examples must not have changed before a head is fitted, in "
        "seconds.",
    )
