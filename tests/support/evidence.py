"""Figures for docs/evidence.md, from a script: the twin of evidence.h.

Scripts import it after sys.path.insert(0, <tests/support>). Values are integers (summed; figures
whose name ends in "_max" keep the largest) or texts (the distinct ones are joined).
"""
import os


def add(suite, figure, value):
    """Appends one figure; nothing happens where MILLRACE_EVIDENCE is not set."""
    folder = os.environ.get("MILLRACE_EVIDENCE")
    if folder:
        line = f"{suite}\t{figure}\t{value}\n".encode()
        fd = os.open(os.path.join(folder, f"{suite}.tsv"),
                     os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
