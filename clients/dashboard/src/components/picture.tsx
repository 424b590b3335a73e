import { Center, Image, Skeleton } from "@mantine/core";
import { IconPhotoOff } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { rest } from "../api/rest";

const KEPT_MS = 60_000;

/**
 * A stored image. It is fetched with the credentials of the caller, which an address in `src` cannot carry.
 *
 * @param widthPx of the fetched picture; the server keeps the aspect ratio.
 * @param alt what it shows; empty if the text beside it says so.
 */
export function Picture({
  imageId,
  widthPx,
  alt,
  height = "100%",
}: {
  imageId: string;
  widthPx: number;
  alt: string;
  height?: number | string;
}) {
  const content = useQuery({
    queryKey: ["image-content", imageId, widthPx],
    queryFn: async ({ signal }) =>
      (await rest(`/v1/images/${imageId}/content?width=${widthPx}&format=webp`, { signal })).blob(),
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: KEPT_MS,
  });
  const url = useBlobUrl(content.data);
  if (content.isError) {
    return (
      <Center h={height} role="img" aria-label={alt}>
        <IconPhotoOff aria-hidden />
      </Center>
    );
  }
  if (!url) return <Skeleton h={height} />;
  return <Image src={url} alt={alt} h={height} fit="cover" />;
}

/** Returns an address of a blob, valid while the component shows it. */
export function useBlobUrl(blob: Blob | undefined): string | undefined {
  const [url, setUrl] = useState<string>();
  useEffect(() => {
    if (!blob) return setUrl(undefined);
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}
