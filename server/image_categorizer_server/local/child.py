"""Replaces itself with a command that ends with its parent: python child.py PARENT SIGNAL USER ...

A separate script, because a process with threads, such as gRPC's, cannot safely run Python code
between fork and exec. It imports no packages, so that `python -I -S` starts it quickly.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def command_of(parent: int, stop_signal: int, user: str | None, command: list[str]) -> list[str]:
    """Returns the command line that runs `command` through this script.

    Args:
        parent: process ID. When this process ends, the command ends.
        stop_signal: signal that the kernel then sends. Linux only.
        user: user to run as, without our groups; None for the current user.
        command: program and arguments.
    """
    return [
        sys.executable,
        "-I",
        "-S",
        __file__,
        str(parent),
        str(stop_signal),
        user or "",
        *command,
    ]


def main() -> None:
    """Runs the command. Exits with 1 if the parent is gone or the command cannot be started."""
    parent, stop_signal, user, *command = sys.argv[1:]
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])  # before setuid, which gives up the right to change groups
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if sys.platform == "linux":  # after setuid, which would clear it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(stop_signal))
    if os.getppid() != int(parent):  # the parent ended before prctl took effect
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell needed
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
