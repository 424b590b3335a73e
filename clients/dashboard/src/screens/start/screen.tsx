import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";

export function Start() {
  return (
    <Screen title={texts.start.title}>
      <Loading />
    </Screen>
  );
}
