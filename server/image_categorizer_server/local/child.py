"""Becomes a command that ends with its parent: python child.py PARENT SIGNAL USER COMMAND...

A script of its own: whatever a process full of threads, as gRPC makes it, runs between fork and
exec may crash.  It takes no packages and little time: Python runs it with -I -S.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def command_of(parent: int, stop_signal: int, user: str | None, command: list[str]) -> list[str]:
    """Returns the words to start, so that `main` of this script becomes the command.

    Args:
        parent: the process whose end ends the command.
        stop_signal: what the kernel then sends; on Linux only.
        user: whom to run as; None for the same user.
        command: what to run.
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
    """Becomes the command; exits with 1 where the parent is gone, or it cannot."""
    parent, stop_signal, user, *command = sys.argv[1:]
    if user:
        os.setuid(pwd.getpwnam(user).pw_uid)
    if sys.platform == "linux":  # after the change of the user, which would clear it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(stop_signal))
    if os.getppid() != int(parent):  # it died before we asked
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is meant
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
