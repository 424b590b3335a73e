import { type ClassifySearch, classifyRoute } from "./route";

type Changes = { [Name in keyof ClassifySearch]: ClassifySearch[Name] | undefined };

/** Returns what changes the state in the address. */
export function useChange() {
  const navigate = classifyRoute.useNavigate();
  return (changes: Changes) =>
    navigate({
      search: (old) => {
        const found = Object.entries({ ...old, ...changes }).filter(([, v]) => v !== undefined);
        return Object.fromEntries(found) as ClassifySearch;
      },
      replace: true,
    });
}
