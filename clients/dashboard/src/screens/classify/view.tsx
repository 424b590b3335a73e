import { Alert, Box, Center, Paper, Text } from "@mantine/core";
import { useState } from "react";
import { useBlobUrl } from "../../components/picture";
import type { BoundingBox } from "../../gen/image_categorizer/v1/types_pb";
import { texts } from "../../texts/en";
import type { Source } from "./classification";
import classes from "./view.module.css";

type Size = { width: number; height: number };

/** The picture, with what the answer says about places in it. */
export function View({
  source,
  boxes,
  heatMap,
}: {
  source: Source;
  /** In pixels of the upright picture. */
  boxes: BoundingBox[];
  /** A PNG, drawn in place of the picture. */
  heatMap: Uint8Array | undefined;
}) {
  const heat = useBlobUrl(useBlobOf(heatMap));
  const own = useBlobUrl(source.kind === "file" ? source.file : undefined);
  const [size, setSize] = useState<Size>();
  const [broken, setBroken] = useState<string>();
  const name = source.kind === "file" ? source.file.name : source.uri;
  const shown = heat ?? own;
  if (!shown || broken === shown) {
    return (
      <Paper withBorder>
        <Center mih={200} p="md">
          <Text c="dimmed" size="sm" ta="center">
            {source.kind === "uri"
              ? texts.classify.source.elsewhere
              : texts.classify.source.notShown}
          </Text>
        </Center>
      </Paper>
    );
  }
  return (
    <Box className={classes.frame}>
      <Box className={classes.shown}>
        <img
          className={classes.picture}
          src={shown}
          alt={texts.classify.source.picture(name)}
          onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) =>
            setSize({ width: naturalWidth, height: naturalHeight })
          }
          onError={() => setBroken(shown)}
        />
        {/* Boxes are in pixels of the picture itself; the heat map may be smaller. */}
        {size && !heat && <Boxes boxes={boxes} size={size} />}
      </Box>
    </Box>
  );
}

function Boxes({ boxes, size: { width, height } }: { boxes: BoundingBox[]; size: Size }) {
  return (
    <svg
      className={classes.boxes}
      viewBox={`0 0 ${width} ${height}`}
      aria-hidden
      data-boxes={boxes.length}
    >
      {boxes.map(({ xMin, yMin, xMax, yMax }) => (
        <rect
          key={`${xMin} ${yMin} ${xMax} ${yMax}`}
          className={classes.box}
          x={xMin}
          y={yMin}
          width={xMax - xMin}
          height={yMax - yMin}
        />
      ))}
    </svg>
  );
}

/** Says that the model cannot draw what is asked for. */
export function NoOverlay({ overlay }: { overlay: "boxes" | "heat" }) {
  const t = texts.classify.answer;
  return (
    <Alert color="gray" variant="light" p="xs">
      {overlay === "boxes" ? t.noBoxes : t.noHeat}
    </Alert>
  );
}

/** Returns a blob that stays the same while the bytes do. */
function useBlobOf(content: Uint8Array | undefined): Blob | undefined {
  const [made, setMade] = useState<{ content: Uint8Array; blob: Blob }>();
  if (!content?.length) return undefined;
  if (made?.content === content) return made.blob;
  const blob = new Blob([content as Uint8Array<ArrayBuffer>], { type: "image/png" });
  setMade({ content, blob });
  return blob;
}
