import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";

export function Access() {
  return (
    <Screen title={texts.access.title}>
      <Loading />
    </Screen>
  );
}
