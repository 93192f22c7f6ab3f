"""The seccomp filters: an allowlist for Python calls, a denylist for programs.

A Python call may do just what computing needs; any other system call answers EPERM. A program needs too many
for such a list, so nearly all is allowed to it, but not what reaches past the sandbox: other namespaces and
mounts, other processes' memory, what tells of other programs' files (the system's folders are the machine's
own at every level), kernel objects that no namespace or limit covers (keyrings, bpf, io_uring, memfds,
System V memory), and all that is younger than this list. Numbers come from the kernel's `unistd_64.h`
(x86_64) and `asm-generic/unistd.h` (aarch64). Standard library only.
"""

import os
from typing import Final

from .seccomp import (
    ALLOW,
    ENOSYS,
    EPERM,
    FAKED,
    ArgumentRule,
    Filter,
    SyscallNumbers,
    SyscallRule,
    build_filter,
)

_COMPUTE: Final[dict[str, SyscallNumbers]] = {
    "futex": (202, 98), "read": (0, 63), "write": (1, 64), "mmap": (9, 222), "munmap": (11, 215),
    "brk": (12, 214), "mremap": (25, 216), "madvise": (28, 233), "mprotect": (10, 226),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "close": (3, 57), "fstat": (5, 80),
    "lseek": (8, 62), "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "getrusage": (98, 165), "getrandom": (318, 278), "sched_yield": (24, 124),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_READ: Final[dict[str, SyscallNumbers]] = {
    "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "readlink": (89, None), "readlinkat": (267, 78),
    "getdents64": (217, 61), "getcwd": (79, 17), "pread64": (17, 67), "fcntl": (72, 25),
    "ioctl": (16, 29),
}  # fmt: skip
_OPENAT: Final = (257, 56)
_FLAGS_THAT_WRITE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

REFUSED: Final[dict[str, SyscallNumbers]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "inotify_init": (253, None),
    "inotify_init1": (294, 26), "inotify_add_watch": (254, 27), "cachestat": (451, 451),
    "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "syslog": (103, 116), "vhangup": (153, 58), "personality": (135, 92),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
}  # fmt: skip
"""Refused at every level."""
UNSCOPED: Final[dict[str, SyscallNumbers]] = {
    "setsid": (112, 157), "setpgid": (109, 154),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "removexattrat": (466, 466), "file_setattr": (469, 469),
}  # fmt: skip
"""Refused where the program sees the machine's own files and processes: changes to files that Landlock
does not guard, and leaving the process group, by which all are killed."""
FAKE_SUCCESS: Final[dict[str, SyscallNumbers]] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
"""Answered with success there, and not done: Landlock does not guard modes and times either, and too
many programs (`cp -p`, `tar`, `git`, `shutil.copy`) end where they are refused."""
SIGNALS: Final[dict[str, SyscallNumbers]] = {
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424),
}  # fmt: skip
"""Refused where nothing keeps signals inside (Landlock before ABI 6)."""
TRUNCATE: Final[SyscallNumbers] = (76, 45)

_CLONE3: Final[SyscallNumbers] = (435, 435)
_LAST_KNOWN: Final = 469
_NEW_NAMESPACES: Final = 0x7E020000
_UNIX, _INET, _INET6 = 1, 2, 10
_TIOCSTI, _TIOCLINUX, _SETFLAGS, _FSSETXATTR = 0x5412, 0x541C, 0x40086602, 0x401C5820
_F_SETOWN, _F_SETOWN_EX = 8, 15
_F_SETLEASE, _F_NOTIFY = 1024, 1026


def python_call_filter(reads: bool) -> Filter | None:
    """The allowlist; None where there is none to build (not Linux, other CPUs).

    With `reads`, files may be opened, but not for writing.
    """
    if not reads:
        return build_filter([SyscallRule(tuple(_COMPUTE.values()), ALLOW)], EPERM)
    reading = ArgumentRule(_OPENAT, 2, (_FLAGS_THAT_WRITE,), passed=EPERM, failed=ALLOW, any_bit=True)
    calls = {**_COMPUTE, **_READ}
    return build_filter([SyscallRule(tuple(calls.values()), ALLOW), reading], EPERM)


def program_filter(*, scoped: bool, signals: bool = True, truncate: bool = True) -> Filter | None:
    """The denylist; None where there is none to build (not Linux, other CPUs).

    `scoped`: the program lives in namespaces of its own. Otherwise `signals` and `truncate` say
    whether something else keeps signals inside, and guards truncation.
    """
    refused = [*REFUSED.values()]
    faked: list[SyscallNumbers] = []
    if not scoped:
        refused += UNSCOPED.values()
        faked += FAKE_SUCCESS.values()
    if not (scoped or signals):
        refused += SIGNALS.values()
    if not (scoped or truncate):
        refused.append(TRUNCATE)
    calls: list[SyscallRule | ArgumentRule] = [
        SyscallRule(refused, EPERM),
        SyscallRule(faked, FAKED),
        SyscallRule([_CLONE3], ENOSYS),  # its flags are behind a pointer; programs then take clone
    ]
    rules = [*calls, *_argument_rules(scoped, fcntl=not (scoped or signals))]
    return build_filter(rules, ALLOW, _LAST_KNOWN)


def _argument_rules(scoped: bool, fcntl: bool) -> list[ArgumentRule]:
    controls = (_F_SETLEASE, _F_NOTIFY, *((_F_SETOWN, _F_SETOWN_EX) if fcntl else ()))
    ioctls = (_TIOCSTI, _TIOCLINUX, _SETFLAGS, _FSSETXATTR)
    families = (_UNIX, _INET, _INET6)  # the network of a namespace has nobody else in it
    return [
        ArgumentRule((56, 220), 0, (_NEW_NAMESPACES,), passed=EPERM, failed=ALLOW, any_bit=True),  # clone
        _only((41, 198), families if scoped else ()),  # socket
        _only((53, 199), (_UNIX,)),  # socketpair
        _only((302, 261), (0,)),  # prlimit64: of oneself
        _only((203, 122), (0,)),  # sched_setaffinity: of oneself
        ArgumentRule((16, 29), 1, ioctls, passed=EPERM, failed=ALLOW),  # ioctl
        ArgumentRule((72, 25), 1, controls, passed=EPERM, failed=ALLOW),  # fcntl
    ]


def _only(call: SyscallNumbers, values: tuple[int, ...]) -> ArgumentRule:
    """Allowed where its first argument is one of the values."""
    return ArgumentRule(call, 0, values, passed=ALLOW, failed=EPERM)
