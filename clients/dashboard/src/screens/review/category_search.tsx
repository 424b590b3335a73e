import { useQuery } from "@connectrpc/connect-query";
import { Modal, Stack, Text } from "@mantine/core";
import { CategorySelect } from "../../components/category_select";
import { CategoryService } from "../../gen/image_categorizer/v1/category_pb";
import type { ReviewItem } from "../../gen/image_categorizer/v1/review_pb";
import { texts } from "../../texts/en";
import { NO_CATEGORY } from "./choices";

/** Searches all categories that can be said about an image: its model's, broader ones, and the tenant's own. */
export function CategorySearch({
  item,
  count,
  isOpen,
  onClose,
  onChoose,
}: {
  item: ReviewItem;
  count: number;
  isOpen: boolean;
  onClose: () => void;
  onChoose: (category: string) => void;
}) {
  const model = item.image?.result?.model;
  const own = useQuery(
    CategoryService.method.listOwnCategories,
    { pageSize: 1000 },
    { enabled: isOpen },
  );
  const names = (own.data?.categories ?? []).map(({ category }) => category);
  return (
    <Modal
      opened={isOpen}
      onClose={onClose}
      title={texts.review.searchTitle(count)}
      closeButtonProps={{ "aria-label": texts.common.close }}
    >
      <Stack gap="xs" mih={320}>
        <CategorySelect
          label={texts.review.searchLabel}
          value={null}
          others={names.filter((name) => name !== NO_CATEGORY)}
          model={model?.name ?? ""}
          version={model?.version ?? ""}
          isFocused
          onChange={(category) => {
            if (!category) return;
            onClose();
            onChoose(category);
          }}
        />
        <Text size="sm" c="dimmed">
          {texts.review.searchHint}
        </Text>
      </Stack>
    </Modal>
  );
}
