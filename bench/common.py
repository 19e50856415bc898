"""What the benchmarks share: places, running a program, checksums, numbers.

A benchmark of its own is a file bench/parts/NAME.py with

    PROGRAMS = ["gen_x"]            programs of bench/*.c that it needs
    def bench(args, work): ...      measures; returns a dictionary for results.json, or raises Failed
    def table(result): ...          yields (what, measured, beside, goal, verdict) rows

args: cores (list), threads, rounds, quick, disk (a folder on a real disk); work: a folder in memory for inputs.
"""
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.environ.get("MILLRACE_SOURCE_DIR", os.path.dirname(HERE))
BUILD = os.environ.get("MILLRACE_BUILD_DIR", os.path.join(SOURCE, "build/release"))
MILLRACE = os.environ.get("MILLRACE_BIN", os.path.join(BUILD, "millrace"))
PROGRAM_TIMEOUT_S = 300
SUMMED = [MILLRACE, "run", "--until-caught-up", "--log-level", "info"]  # the sink 'null' logs its sum


class Failed(Exception):
    pass


def program(name):
    return os.path.join(BUILD, "bench", name)


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(command, env=None):
    """Runs to the end: wall, CPU seconds and peak memory of that one process, with its output."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                                 env={**os.environ, **(env or {})})
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read().decode(), err.read().decode()
    if child.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit code {child.returncode}: {stderr.strip()[-600:]}")
    return {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, "rss_mb": usage.ru_maxrss / 1024,
            "stdout": stdout, "stderr": stderr}


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def checksum(stderr):
    found = re.search(r"(\d+) rows in (\d+) batches, checksum ([0-9a-f]{16})", stderr)
    if found is None:
        raise Failed(f"no checksum of the sink 'null' in: {stderr.strip()[-600:]}")
    return {"rows": int(found.group(1)), "batches": int(found.group(2)), "sum": found.group(3)}


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def side(rows, samples):
    """The middle of the rounds, with all of them."""
    wall = statistics.median(sample["wall_s"] for sample in samples)
    return {"rows_per_s": rows / wall, "wall_s": wall,
            "cpu_s_per_m_rows": statistics.median(s["cpu_s"] for s in samples) / rows * 1e6,
            "peak_rss_mb": max(s["rss_mb"] for s in samples),
            "walls_s": [round(s["wall_s"], 4) for s in samples]}


def verdict(ok):
    return "reached" if ok else "MISSED"


def by_progress(command, env, stop=False):
    """Milliseconds to the first line of progress, which comes right behind the commit. stop: it would go on for ever."""
    start = time.monotonic_ns()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0,
                             env={**os.environ, **env})
    text = b""
    while b'"batchId"' not in text:
        ready, _, _ = select.select([child.stderr], [], [], PROGRAM_TIMEOUT_S)
        piece = os.read(child.stderr.fileno(), 65536) if ready else b""
        if not piece:
            child.kill()
            raise Failed(f"{' '.join(command)}: no progress: {text.decode()[-600:]}")
        text += piece
    elapsed = (time.monotonic_ns() - start) / 1e6
    if stop:
        child.kill()
    child.stderr.read()
    child.wait()
    return elapsed
