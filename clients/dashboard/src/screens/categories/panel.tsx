import { Anchor, Breadcrumbs, Group, Stack, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { texts } from "../../texts/en";
import { Quality } from "./quality";
import { type Node, pathOf, type Tree } from "./tree";

/** One category of a model: where it stands in the tree, and how good its answers are. */
export function CategoryPanel({
  tree,
  node,
  onOpen,
}: {
  tree: Tree;
  node: Node;
  onOpen: (category: string) => void;
}) {
  const path = pathOf(tree, node.name).reverse();
  return (
    <Stack gap="md" component="section" aria-label={node.name}>
      <div>
        {path.length > 0 && (
          <Breadcrumbs mb={4}>
            {path.map((name) => (
              <Anchor key={name} component="button" size="sm" onClick={() => onOpen(name)}>
                {name}
              </Anchor>
            ))}
          </Breadcrumbs>
        )}
        <Title order={2} size="h3">
          {node.name}
        </Title>
        <Group gap="md" mt={4}>
          {node.id && (
            <Text size="sm" c="dimmed">
              {texts.categories.id(node.id)}
            </Text>
          )}
          {node.children.length > 0 && (
            <Text size="sm" c="dimmed">
              {texts.categories.below(node.children.length)}
            </Text>
          )}
          <Anchor
            size="sm"
            renderRoot={(props) => (
              <Link to="/ui/review" search={{ category: node.name }} {...props} />
            )}
          >
            {texts.categories.toReview}
          </Anchor>
        </Group>
      </div>
      <Quality category={node.name} />
    </Stack>
  );
}
