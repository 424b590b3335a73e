import { useMutation, useQuery } from "@connectrpc/connect-query";
import { Button, Drawer, Group, Stack, Text } from "@mantine/core";
import { IconTrash } from "@tabler/icons-react";
import { useState } from "react";
import { useMay } from "../../api/caller";
import { Confirm } from "../../components/confirm";
import { Picture } from "../../components/picture";
import { Answered, ErrorNotice } from "../../components/states";
import { CategoryService } from "../../gen/image_categorizer/v1/category_pb";
import { texts } from "../../texts/en";
import classes from "./categories.module.css";
import { DropPictures } from "./drop_pictures";
import { RemoveButton } from "./remove_button";
import { reloadOwn, useTeach } from "./teach";

const EXAMPLE_PX = 256;

/** One category of the tenant: its examples, more of them, fewer of them, and its end. */
export function OwnCategoryDrawer({
  category,
  onClose,
}: {
  category: string;
  onClose: () => void;
}) {
  const mayTeach = useMay("classifier");
  const [isEnding, setIsEnding] = useState(false);
  const own = useQuery(CategoryService.method.getOwnCategory, { category });
  const remove = useMutation(CategoryService.method.removeCategoryExample, {
    onSuccess: reloadOwn,
  });
  const end = useMutation(CategoryService.method.deleteCategory, {
    onSuccess: async () => {
      onClose();
      await reloadOwn();
    },
  });
  return (
    <Drawer
      opened
      onClose={onClose}
      position="right"
      size="lg"
      title={category}
      closeButtonProps={{ "aria-label": texts.common.close }}
    >
      <Answered query={own}>
        {({ exampleCount, imageIds }) => (
          <Stack gap="md">
            <Group justify="space-between">
              <Text size="sm" c="dimmed">
                {texts.categories.examples(exampleCount)}
              </Text>
              {mayTeach && (
                <Button
                  size="xs"
                  variant="light"
                  color="red"
                  leftSection={<IconTrash size={16} aria-hidden />}
                  onClick={() => setIsEnding(true)}
                >
                  {texts.categories.end}
                </Button>
              )}
            </Group>
            {mayTeach && <More category={category} />}
            {remove.isError && <ErrorNotice error={remove.error} />}
            <div className={classes.examples}>
              {imageIds.map((imageId, index) => (
                <div className={classes.example} key={imageId}>
                  <Picture
                    imageId={imageId}
                    widthPx={EXAMPLE_PX}
                    alt={texts.categories.example(index + 1)}
                  />
                  {mayTeach && (
                    <RemoveButton
                      label={texts.categories.removeExample(index + 1)}
                      disabled={remove.isPending}
                      onClick={() => remove.mutate({ category, imageId })}
                    />
                  )}
                </div>
              ))}
            </div>
          </Stack>
        )}
      </Answered>
      <Confirm
        isOpen={isEnding}
        title={texts.categories.endTitle(category)}
        action={texts.categories.end}
        isDangerous
        isPending={end.isPending}
        error={end.error}
        onConfirm={() => end.mutate({ category })}
        onClose={() => setIsEnding(false)}
      >
        {texts.categories.endHint}
      </Confirm>
    </Drawer>
  );
}

function More({ category }: { category: string }) {
  const [files, setFiles] = useState<File[]>([]);
  const { teach, stored } = useTeach(() => setFiles([]));
  return (
    <Stack gap="xs">
      <DropPictures files={files} onChange={setFiles} />
      {teach.isError && <ErrorNotice error={teach.error} />}
      {files.length > 0 && (
        <Group justify="flex-end">
          {teach.isPending && (
            <Text size="sm" c="dimmed" role="status">
              {texts.categories.storing(stored, files.length)}
            </Text>
          )}
          <Button
            loading={teach.isPending}
            onClick={() => teach.mutate({ category, files, isNew: false })}
          >
            {texts.categories.addExamples(files.length)}
          </Button>
        </Group>
      )}
    </Stack>
  );
}
