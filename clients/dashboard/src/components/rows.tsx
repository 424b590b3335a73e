import { Button, Center, ScrollArea, Stack, Table } from "@mantine/core";
import type { ReactNode } from "react";
import { texts } from "../texts/en";
import { Answered, Empty } from "./states";

/** `wraps`: the cell is text of several lines. */
type Column<Row> = { name: string; cell: (row: Row) => ReactNode; wraps?: boolean };

type Pages<Page> = {
  data: { pages: Page[] } | undefined;
  error: unknown;
  isPending: boolean;
  refetch: () => unknown;
  hasNextPage: boolean;
  isFetchingNextPage: boolean;
  fetchNextPage: () => unknown;
};

/** A table that says what it lists; on a telephone it scrolls sideways, also by the keyboard. */
export function Rows<Row>({
  label,
  columns,
  rows,
  keyOf,
}: {
  label: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row) => string;
}) {
  return (
    <ScrollArea
      type="auto"
      offsetScrollbars="x"
      viewportProps={{ tabIndex: 0, role: "region", "aria-label": label }}
    >
      <Table verticalSpacing="xs" highlightOnHover>
        <Table.Thead>
          <Table.Tr>
            {columns.map(({ name }) => (
              <Table.Th key={name} style={{ whiteSpace: "nowrap" }}>
                {name}
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row) => (
            <Table.Tr key={keyOf(row)}>
              {columns.map(({ name, cell, wraps }) => (
                <Table.Td key={name} style={wraps ? { minWidth: 240 } : { whiteSpace: "nowrap" }}>
                  {cell(row)}
                </Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </ScrollArea>
  );
}

/** A table of what a listing RPC answers, page by page. */
export function PagedRows<Page, Row>({
  query,
  rowsOf,
  empty,
  ...table
}: {
  query: Pages<Page>;
  rowsOf: (page: Page) => readonly Row[];
  empty: string;
  label: string;
  columns: readonly Column<Row>[];
  keyOf: (row: Row) => string;
}) {
  return (
    <Answered query={query}>
      {({ pages }) => {
        const rows = pages.flatMap(rowsOf);
        if (rows.length === 0) return <Empty title={empty} />;
        return (
          <Stack>
            <Rows rows={rows} {...table} />
            {query.hasNextPage && (
              <Center>
                <Button
                  variant="default"
                  loading={query.isFetchingNextPage}
                  onClick={() => query.fetchNextPage()}
                >
                  {texts.common.more}
                </Button>
              </Center>
            )}
          </Stack>
        );
      }}
    </Answered>
  );
}

/** How every listing of this page is read. */
export const PAGING = {
  pageParamKey: "pageToken",
  getNextPageParam: (last: { nextPageToken: string }) => last.nextPageToken || undefined,
} as const;
