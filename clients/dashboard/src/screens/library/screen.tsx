import { Button, FileButton, SegmentedControl } from "@mantine/core";
import { IconPhotoSearch } from "@tabler/icons-react";
import { useState } from "react";
import { useMay } from "../../api/caller";
import { Screen } from "../../components/screen";
import { texts } from "../../texts/en";
import { Duplicates } from "./duplicates";
import { FilteredImages } from "./filtered";
import { ImagePanel } from "./panel";
import { libraryRoute } from "./route";
import { withoutImage } from "./search";
import { SentSimilar, StoredSimilar } from "./similar";
import { ViewMenu } from "./view_menu";

/** The stored images. */
export function Library() {
  const view = libraryRoute.useSearch();
  const navigate = libraryRoute.useNavigate();
  const isClassifier = useMay("classifier");
  const [picture, setPicture] = useState<File | null>(null);
  const words = texts.library;
  const open = (image: string) =>
    navigate({ search: (old) => ({ ...old, image }), resetScroll: false });
  const close = () => navigate({ search: withoutImage, replace: true, resetScroll: false });
  const showAll = () => {
    setPicture(null);
    void navigate({ search: {} });
  };
  return (
    <Screen
      title={words.title}
      actions={
        <>
          <SegmentedControl
            aria-label={words.modes.label}
            value={view.show ?? "images"}
            data={[
              { value: "images", label: words.modes.images },
              { value: "duplicates", label: words.modes.duplicates },
            ]}
            onChange={(mode) => {
              setPicture(null);
              void navigate({ search: mode === "duplicates" ? { show: "duplicates" } : {} });
            }}
          />
          {isClassifier && (
            <FileButton
              accept="image/*"
              inputProps={{ "aria-label": words.byPicture }}
              onChange={(file) => {
                if (!file) return;
                setPicture(file);
                void navigate({ search: {} });
              }}
            >
              {(props) => (
                <Button
                  variant="default"
                  leftSection={<IconPhotoSearch size={18} aria-hidden />}
                  {...props}
                >
                  {words.byPicture}
                </Button>
              )}
            </FileButton>
          )}
          <ViewMenu view={view} />
        </>
      }
    >
      {view.show === "duplicates" ? (
        <Duplicates onOpen={open} />
      ) : picture ? (
        <SentSimilar picture={picture} onOpen={open} onStop={showAll} />
      ) : view.similar ? (
        <StoredSimilar imageId={view.similar} onOpen={open} onStop={showAll} />
      ) : (
        <FilteredImages view={view} onOpen={open} />
      )}
      {view.image && (
        <ImagePanel imageId={view.image} onClose={close} onLeave={() => setPicture(null)} />
      )}
    </Screen>
  );
}
