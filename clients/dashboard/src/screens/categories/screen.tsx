import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";

export function Categories() {
  return (
    <Screen title={texts.categories.title}>
      <Loading />
    </Screen>
  );
}
