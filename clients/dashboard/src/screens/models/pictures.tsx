import { Text } from "@mantine/core";
import { Picture } from "../../components/picture";
import { texts } from "../../texts/en";
import classes from "./models.module.css";

const WIDTH_PX = 256;
const MAX_SHOWN = 24;

/** Small pictures with a line of text each. */
export function Pictures({ pictures }: { pictures: { imageId: string; text: string }[] }) {
  return (
    <>
      <div className={classes.pictures}>
        {pictures.slice(0, MAX_SHOWN).map(({ imageId, text }) => (
          <figure key={imageId} className={classes.picture}>
            <Picture imageId={imageId} widthPx={WIDTH_PX} alt="" height={96} />
            <Text component="figcaption" size="xs" px={6} py={4}>
              {text}
            </Text>
          </figure>
        ))}
      </div>
      {pictures.length > MAX_SHOWN && (
        <Text size="sm" c="dimmed">
          {texts.models.moreImages(pictures.length - MAX_SHOWN)}
        </Text>
      )}
    </>
  );
}
