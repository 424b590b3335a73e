import {
  IconCategory,
  IconChecklist,
  IconCpu,
  IconHome,
  IconKey,
  IconPhoto,
  IconPhotoSearch,
  IconStack2,
  IconTools,
} from "@tabler/icons-react";
import type { Role } from "../api/caller";
import { texts } from "../texts/en";

/** The screens, in the order of the menu; callers without the role do not see them. */
export const SCREENS = [
  { to: "/ui/start", name: texts.shell.screens.start, icon: IconHome, role: "viewer" },
  { to: "/ui/classify", name: texts.shell.screens.classify, icon: IconPhoto, role: "classifier" },
  { to: "/ui/batches", name: texts.shell.screens.batches, icon: IconStack2, role: "viewer" },
  { to: "/ui/review", name: texts.shell.screens.review, icon: IconChecklist, role: "classifier" },
  { to: "/ui/library", name: texts.shell.screens.library, icon: IconPhotoSearch, role: "viewer" },
  {
    to: "/ui/categories",
    name: texts.shell.screens.categories,
    icon: IconCategory,
    role: "viewer",
  },
  { to: "/ui/models", name: texts.shell.screens.models, icon: IconCpu, role: "viewer" },
  { to: "/ui/operations", name: texts.shell.screens.operations, icon: IconTools, role: "operator" },
  { to: "/ui/access", name: texts.shell.screens.access, icon: IconKey, role: "operator" },
] as const satisfies readonly { to: string; name: string; icon: typeof IconHome; role: Role }[];
