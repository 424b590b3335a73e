import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";

export function Library() {
  return (
    <Screen title={texts.library.title}>
      <Loading />
    </Screen>
  );
}
