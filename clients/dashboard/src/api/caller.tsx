import { createClient } from "@connectrpc/connect";
import { useQuery } from "@tanstack/react-query";
import { createContext, useContext } from "react";
import { AdminService } from "../gen/image_categorizer/v1/admin_pb";
import type { Caller } from "../gen/image_categorizer/v1/caller_pb";
import { isSignedOut } from "./error";
import { CALLER_KEY } from "./query";
import { transport } from "./transport";

export type Role = "viewer" | "classifier" | "operator" | "admin" | "platform";

const ROLES: readonly string[] = ["viewer", "classifier", "operator", "admin", "platform"];
const client = createClient(AdminService, transport);

/** Who calls; null if nobody has signed in. */
export function useCallerQuery() {
  return useQuery({
    queryKey: CALLER_KEY,
    queryFn: async () => {
      try {
        return await client.getCaller({});
      } catch (error) {
        if (isSignedOut(error)) return null;
        throw error;
      }
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export const CallerContext = createContext<Caller | null>(null);

/** Who calls. Only below the page to sign in. */
export function useCaller(): Caller {
  const caller = useContext(CallerContext);
  if (!caller) throw new Error("nobody has signed in");
  return caller;
}

/** Whether a role includes another. The server decides; screens only hide what it would refuse. */
export function includes(role: string, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/** Whether the caller has a role, or one that includes it. */
export function useMay(needed: Role): boolean {
  return includes(useCaller().role, needed);
}
