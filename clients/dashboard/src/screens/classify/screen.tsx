import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";

export function Classify() {
  return (
    <Screen title={texts.classify.title}>
      <Loading />
    </Screen>
  );
}
