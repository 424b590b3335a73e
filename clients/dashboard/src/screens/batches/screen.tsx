import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";

export function Batches() {
  return (
    <Screen title={texts.batches.title}>
      <Loading />
    </Screen>
  );
}
