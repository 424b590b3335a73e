import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { useMutation } from "@connectrpc/connect-query";
import { Button, Modal, Select, Stack, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { includes, type Role, useCaller } from "../../api/caller";
import { queries } from "../../api/query";
import { ErrorNotice } from "../../components/states";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import type { ApiKey } from "../../gen/image_categorizer/v1/key_pb";
import { texts } from "../../texts/en";
import { words } from "./words";

const t = texts.access.keys;
const ROLES: readonly Role[] = ["viewer", "classifier", "operator", "admin", "platform"];
const MAX_NAME_CHARACTERS = 128;

/** A form that makes a key, with a role of at most the caller's. */
export function NewKey({
  isOpen,
  onClose,
  onMade,
}: {
  isOpen: boolean;
  onClose: () => void;
  onMade: (key: ApiKey) => void;
}) {
  return (
    <Modal
      opened={isOpen}
      onClose={onClose}
      title={t.makeTitle}
      closeButtonProps={{ "aria-label": texts.common.close }}
    >
      <Form onMade={onMade} />
    </Modal>
  );
}

function Form({ onMade }: { onMade: (key: ApiKey) => void }) {
  const caller = useCaller();
  const [name, setName] = useState("");
  const [role, setRole] = useState<string>("classifier");
  const [scopes, setScopes] = useState("");
  const [networks, setNetworks] = useState("");
  const [expires, setExpires] = useState("");
  const made = useMutation(AdminService.method.createApiKey, {
    onSuccess: async (key) => {
      onMade(key);
      await queries.invalidateQueries();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    made.mutate({
      name: name.trim(),
      role,
      scopes: words(scopes),
      allowedAddresses: words(networks),
      ...(expires ? { expireTime: timestampFromDate(new Date(expires)) } : {}),
    });
  };
  return (
    <form onSubmit={submit}>
      <Stack>
        <TextInput
          label={t.name}
          value={name}
          maxLength={MAX_NAME_CHARACTERS}
          data-autofocus
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <Select
          label={t.role}
          data={ROLES.filter((known) => includes(caller.role, known))}
          value={role}
          allowDeselect={false}
          onChange={(value) => value && setRole(value)}
        />
        <TextInput
          label={t.scopes}
          description={t.scopesHint}
          value={scopes}
          onChange={(event) => setScopes(event.currentTarget.value)}
        />
        <TextInput
          label={t.addresses}
          description={t.addressesHint}
          value={networks}
          onChange={(event) => setNetworks(event.currentTarget.value)}
        />
        <TextInput
          type="datetime-local"
          label={t.expires}
          description={t.expiresHint}
          value={expires}
          onChange={(event) => setExpires(event.currentTarget.value)}
        />
        {made.isError && <ErrorNotice error={made.error} />}
        <Button type="submit" loading={made.isPending} disabled={!name.trim()}>
          {t.make}
        </Button>
      </Stack>
    </form>
  );
}
