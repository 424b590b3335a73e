import { createClient } from "@connectrpc/connect";
import { createConnectQueryKey } from "@connectrpc/connect-query";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { eachOf } from "../../api/parallel";
import { queries } from "../../api/query";
import { transport } from "../../api/transport";
import { CategoryService } from "../../gen/image_categorizer/v1/category_pb";
import { ImageService } from "../../gen/image_categorizer/v1/image_pb";

const UPLOADS_AT_ONCE = 2;
const images = createClient(ImageService, transport);
const categories = createClient(CategoryService, transport);

/** Stores files one by one, as large as the server takes each, and makes them examples of a category. */
export function useTeach(onTaught: (category: string) => void) {
  const [stored, setStored] = useState(0);
  const teach = useMutation({
    mutationFn: async (order: { category: string; files: File[]; isNew: boolean }) => {
      const { category, files, isNew } = order;
      setStored(0);
      const ended = await eachOf(files, UPLOADS_AT_ONCE, async (file) => {
        const image = new Uint8Array(await file.arrayBuffer());
        const source = { case: "image", value: image } as const;
        const answer = await images.uploadImage({ source, filename: file.name });
        setStored((old) => old + 1);
        return answer.imageId;
      });
      const imageIds = ended.flatMap(({ value }) => (value ? [value] : []));
      try {
        const failed = ended.find(({ error }) => error !== undefined);
        if (failed) throw failed.error;
        const request = { category, imageIds };
        await (isNew
          ? categories.createCategory(request)
          : categories.addCategoryExamples(request));
      } catch (error) {
        // Nothing was taught: what was stored for it goes, too.
        await eachOf(imageIds, UPLOADS_AT_ONCE, (imageId) => images.deleteImage({ imageId }));
        throw error;
      }
    },
    onSuccess: async (_, { category }) => {
      await reloadOwn();
      onTaught(category);
    },
  });
  return { teach, stored };
}

/** Loads again what is shown of the tenant's categories. */
export function reloadOwn(): Promise<void> {
  const queryKey = createConnectQueryKey({ schema: CategoryService, cardinality: undefined });
  return queries.invalidateQueries({ queryKey });
}
