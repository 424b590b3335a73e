import { useQuery } from "@connectrpc/connect-query";
import { Stack, Table, Text } from "@mantine/core";
import { IconUsers } from "@tabler/icons-react";
import { Figures } from "../../components/figures";
import { Answered, Empty } from "../../components/states";
import { type ReviewAgreement, ReviewService } from "../../gen/image_categorizer/v1/review_pb";
import { texts } from "../../texts/en";
import { strengthOf } from "./kappa";

/** How far reviewers agree about the results that two or more of them have judged. */
export function Agreement() {
  const agreement = useQuery(ReviewService.method.getReviewAgreement, {});
  return (
    <Answered query={agreement}>
      {(data) =>
        data.resultCount === 0 ? (
          <Empty icon={<IconUsers size={40} aria-hidden />} title={texts.review.noAgreement}>
            {texts.review.noAgreementHint}
          </Empty>
        ) : (
          <Stack gap="lg">
            <Figures
              figures={[
                {
                  label: texts.review.kappa,
                  value: kappaText(data.fleissKappa),
                  note: texts.review.strengths[strengthOf(data.fleissKappa)],
                },
                {
                  label: texts.review.observed,
                  value: texts.common.percent(data.observedAgreement ?? 0),
                },
                { label: texts.review.judgedTwice, value: String(data.resultCount) },
                { label: texts.review.reviewers, value: String(data.reviewerCount) },
              ]}
            />
            <Text size="sm" c="dimmed" maw={640}>
              {texts.review.kappaHint}
            </Text>
            <Pairs pairs={data.pairs} />
          </Stack>
        )
      }
    </Answered>
  );
}

function Pairs({ pairs }: { pairs: ReviewAgreement["pairs"] }) {
  return (
    <Table.ScrollContainer minWidth={560} scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}>
      <Table striped aria-label={texts.review.pairs}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{texts.review.reviewer}</Table.Th>
            <Table.Th>{texts.review.reviewer}</Table.Th>
            <Table.Th ta="right">{texts.review.inCommon}</Table.Th>
            <Table.Th ta="right">{texts.review.observed}</Table.Th>
            <Table.Th ta="right">{texts.review.cohen}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {pairs.map((pair) => (
            <Table.Tr key={`${pair.reviewer} ${pair.otherReviewer}`}>
              <Table.Td>{pair.reviewer}</Table.Td>
              <Table.Td>{pair.otherReviewer}</Table.Td>
              <Table.Td ta="right">{pair.resultCount}</Table.Td>
              <Table.Td ta="right">{texts.common.percent(pair.observedAgreement)}</Table.Td>
              <Table.Td ta="right">{kappaText(pair.cohenKappa)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function kappaText(kappa: number | undefined): string {
  return kappa === undefined ? texts.review.noKappa : kappa.toFixed(2);
}
