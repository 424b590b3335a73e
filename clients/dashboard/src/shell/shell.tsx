import {
  ActionIcon,
  Anchor,
  AppShell,
  Burger,
  Container,
  Group,
  Menu,
  NavLink,
  Text,
  useComputedColorScheme,
  useMantineColorScheme,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconBook, IconLogout, IconMoon, IconSun, IconUser } from "@tabler/icons-react";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useEffect } from "react";
import { CallerContext, includes, useCaller, useCallerQuery } from "../api/caller";
import { changeCaller } from "../api/query";
import { signOut } from "../api/session";
import { ErrorNotice, Loading } from "../components/states";
import { texts } from "../texts/en";
import { Keys } from "./keys";
import { SCREENS } from "./navigation";
import { SignIn } from "./sign_in";

const MAIN = "main";

/** The page to sign in, or header, menu and screen. */
export function Shell() {
  const caller = useCallerQuery();
  if (caller.data === null) return <SignIn />;
  if (caller.data === undefined) {
    return (
      <Container size="xs" py="xl">
        {caller.isError ? (
          <ErrorNotice error={caller.error} onRetry={() => caller.refetch()} />
        ) : (
          <Loading />
        )}
      </Container>
    );
  }
  return (
    <CallerContext value={caller.data}>
      <Frame />
    </CallerContext>
  );
}

function Frame() {
  const [isOpen, menu] = useDisclosure();
  const { pathname } = useLocation();
  const { close } = menu;
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new screen closes the menu of a telephone
  useEffect(close, [pathname, close]);
  return (
    <AppShell
      header={{ height: 52 }}
      navbar={{ width: 200, breakpoint: "sm", collapsed: { mobile: !isOpen } }}
      padding="md"
    >
      <Keys />
      <Anchor href={`#${MAIN}`} className="skip">
        {texts.shell.skip}
      </Anchor>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger
              opened={isOpen}
              onClick={menu.toggle}
              hiddenFrom="sm"
              size="sm"
              aria-label={texts.shell.menu}
            />
            <Text fw={700}>{texts.common.product}</Text>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <ThemeSwitch />
            <Account />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" aria-label={texts.shell.navigation}>
        <Screens pathname={pathname} />
      </AppShell.Navbar>
      <AppShell.Main id={MAIN} tabIndex={-1}>
        <Outlet />
      </AppShell.Main>
    </AppShell>
  );
}

function Screens({ pathname }: { pathname: string }) {
  const { role } = useCaller();
  return (
    <>
      {SCREENS.filter((screen) => includes(role, screen.role)).map(({ to, name, icon: Icon }) => (
        <NavLink
          key={to}
          label={name}
          active={pathname === to || pathname.startsWith(`${to}/`)}
          leftSection={<Icon size={18} aria-hidden />}
          renderRoot={(props) => <Link to={to} {...props} />}
        />
      ))}
      <NavLink
        mt="auto"
        href="/docs"
        label={texts.shell.documentation}
        leftSection={<IconBook size={18} aria-hidden />}
      />
    </>
  );
}

function ThemeSwitch() {
  const { setColorScheme } = useMantineColorScheme();
  const isDark = useComputedColorScheme("light") === "dark";
  return (
    <ActionIcon
      variant="subtle"
      color="gray"
      size="lg"
      aria-label={isDark ? texts.shell.light : texts.shell.dark}
      onClick={() => setColorScheme(isDark ? "light" : "dark")}
    >
      {isDark ? <IconSun size={20} /> : <IconMoon size={20} />}
    </ActionIcon>
  );
}

function Account() {
  const caller = useCaller();
  const leave = async () => {
    await signOut();
    changeCaller(null);
  };
  return (
    <Menu position="bottom-end" width={260}>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" size="lg" aria-label={texts.shell.account}>
          <IconUser size={20} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          {texts.shell.signedInAs(caller.actorId, caller.role, caller.tenantId)}
        </Menu.Label>
        <Menu.Item leftSection={<IconLogout size={16} />} onClick={leave}>
          {texts.shell.signOut}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
