import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";

export function Review() {
  return (
    <Screen title={texts.review.title}>
      <Loading />
    </Screen>
  );
}
