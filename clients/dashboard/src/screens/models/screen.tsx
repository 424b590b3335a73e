import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";

export function Models() {
  return (
    <Screen title={texts.models.title}>
      <Loading />
    </Screen>
  );
}
