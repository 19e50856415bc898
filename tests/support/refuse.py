"""System calls that fail for a program from its start: a seccomp filter that answers with an errno.

    subprocess.run(command, preexec_fn=refuse.calls(renameat2=errno.ENOSYS, copy_file_range=errno.EXDEV))

x86-64 Linux only; available() says whether it can be had. The filter goes to all threads and children of the program.
"""
import ctypes
import os
import platform
import struct

NUMBERS = {  # x86-64
    "open": 2, "close": 3, "mmap": 9, "socket": 41, "accept": 43, "clone": 56, "fork": 57, "vfork": 58, "execve": 59,
    "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75, "rename": 82, "mkdir": 83, "link": 86, "openat": 257,
    "unlinkat": 263, "renameat": 264, "linkat": 265, "sync_file_range": 277, "fallocate": 285, "accept4": 288,
    "pwritev": 296, "renameat2": 316, "getrandom": 318, "memfd_create": 319, "execveat": 322, "copy_file_range": 326,
    "io_uring_setup": 425, "clone3": 435, "openat2": 437,
}
AUDIT_ARCH_X86_64 = 0xC000003E
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38


def available():
    return platform.machine() == "x86_64" and os.path.exists("/proc/sys/kernel/seccomp")


class _Program(ctypes.Structure):
    _fields_ = [("size", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def calls(**answers):
    """A function for preexec_fn: each named call fails with its errno. A pair (errno, lowest argument 0) lets smaller first
    arguments through: close=(EIO, 3) spares the standard streams."""
    load, equal, at_least, ret = 0x20, 0x15, 0x35, 0x06
    code = [(load, 0, 0, 4), (equal, 1, 0, AUDIT_ARCH_X86_64), (ret, 0, 0, ALLOW), (load, 0, 0, 0)]
    for name, answer in answers.items():
        error, least = answer if isinstance(answer, tuple) else (answer, None)
        if least is None:
            code += [(equal, 0, 1, NUMBERS[name]), (ret, 0, 0, ERRNO | error)]
        else:
            code += [(equal, 0, 4, NUMBERS[name]), (load, 0, 0, 16), (at_least, 0, 1, least), (ret, 0, 0, ERRNO | error),
                     (ret, 0, 0, ALLOW)]
    code.append((ret, 0, 0, ALLOW))
    packed = b"".join(struct.pack("HBBI", *one) for one in code)
    program = _Program(len(code), packed)
    libc = ctypes.CDLL(None, use_errno=True)

    def install():
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or \
                libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
            os._exit(99)
    return install


def without_privileges():
    """For preexec_fn: root becomes a user whom file modes bind. Others are bound already."""
    libc = ctypes.CDLL(None, use_errno=True)

    def drop():
        if os.geteuid() == 0:
            for capability in range(64):
                libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; unknown ones fail
    return drop
