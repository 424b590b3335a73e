import "@mantine/notifications/styles.css";

import { Notifications } from "@mantine/notifications";

/** Where screens say what they have done. */
export function Notices() {
  return <Notifications />;
}
