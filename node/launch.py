"""Run a program that dies with whoever started it, in a process group of its own.

    python launch.py PARENT SIGNAL USER PROGRAM ARGUMENT…

PARENT is the pid of the starter, SIGNAL what the program gets when that process dies, and USER the
user to become, or `-`.  It is a program of its own because code between fork and exec must not run
inside a process that has threads, and it imports little, so that it starts in milliseconds.

USER is named where root starts PostgreSQL, which refuses to run as root.  It keeps one right of
root's, CAP_DAC_OVERRIDE, because programs and data may lie below a folder that only root may enter
(/root, a checkout of a build system).  Where root itself lacks that right, they may not.

Source: capabilities(7), prctl(2), capset(2).
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None)


def become(user: str) -> None:
    """Take the rights of `user`, and one of root's.

    Without SECBIT_NO_SETUID_FIXUP, access(2), by which PostgreSQL looks for its own programs, would
    ignore that right.  If the kernel grants none of this, the program has the user's rights alone.
    """
    account = pwd.getpwnam(user)
    libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    only = 1 << CAP_DAC_OVERRIDE
    libc.capset(header, (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0))
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def main() -> None:
    parent, death, user, *command = sys.argv[1:]
    os.setpgid(0, 0)  # Not a session of its own: among those, nice counts for nothing (sched(7)).
    if user != "-":
        become(user)
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, int(death), 0, 0, 0)
    if os.getppid() == int(parent):  # It may have died before the line above.
        os.execv(command[0], command)


if __name__ == "__main__":
    main()
