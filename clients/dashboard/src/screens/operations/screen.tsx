import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";

export function Operations() {
  return (
    <Screen title={texts.operations.title}>
      <Loading />
    </Screen>
  );
}
