"""W5a and W6: 10 M keys in state. Durable updates a second, bytes a key; from start after kill -9 to the first committed batch."""
import os
import shutil
import signal
import statistics
import subprocess
import tempfile

from common import HERE, MILLRACE, SUMMED, Failed, by_progress, checksum, run, say, side, verdict

PROGRAMS = []
SCRIPT = os.path.join(HERE, "w6.sql")
GOAL_UPDATES = 6e6
GOAL_BYTES = 64
GOALS_MS = {10_000: 50, 10_000_000: 1000}
PROCESS_BYTES = 60e6  # of a pipeline without state


RANDOM_KEYS = "fields.k.kind = 'random', fields.k.min = '0', fields.k.max = '${LAST_KEY}'"


def environment(folder, keys, rows, rows_per_batch):
    return {"CHECKPOINT": os.path.join(folder, "checkpoint"), "ROWS": str(rows), "ROWS_PER_BATCH": str(rows_per_batch),
            "LAST_KEY": str(keys - 1)}


def fill(folder, keys):
    """Every key once."""
    path = os.path.join(folder, "fill.sql")
    with open(SCRIPT, encoding="utf-8") as script, open(path, "w", encoding="utf-8") as file:
        file.write(script.read().replace(RANDOM_KEYS, "fields.k.kind = 'sequence'"))
    run([*SUMMED, path], environment(folder, keys, keys, 1_000_000))


def updates(folder, keys, rows):
    """So many updates of random keys more."""
    return run([*SUMMED, SCRIPT], environment(folder, keys, keys + rows, 2_000_000))


def kill_while_running(folder, keys):
    """A query over the state that is killed in the middle of its batches."""
    env = environment(folder, keys, 10**15, 10_000)
    # pylint: disable=consider-using-with
    child = subprocess.Popen([MILLRACE, "run", "--progress", "json", SCRIPT], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, env={**os.environ, **env})
    seen = 0
    while seen < 20:
        line = child.stderr.readline()
        if not line:
            raise Failed("w6: the query ended before it was killed")
        seen += b'"batchId"' in line
    child.send_signal(signal.SIGKILL)
    child.stderr.close()
    child.wait()


def recovery_ms(folder, keys):
    kill_while_running(folder, keys)
    env = environment(folder, keys, 10**15, 10_000)
    return by_progress([MILLRACE, "run", "--progress", "json", SCRIPT], env, stop=True)


def bench(args, _):
    found = {}
    for keys in GOALS_MS:
        keys = keys // 10 if args.quick and keys > 10_000 else keys
        folder = tempfile.mkdtemp(prefix="w6-", dir=args.disk)
        fill(folder, keys)
        if keys > 10_000:
            rows = 4_000_000 if args.quick else 40_000_000
            sample = updates(folder, keys, rows)
            found["updates"] = {**side(rows, [sample]), "keys": keys, **checksum(sample["stderr"]),
                                "bytes_per_key": (sample["rss_mb"] * 1e6 - PROCESS_BYTES) / keys}
            say(f"w5a: {rows / sample['wall_s'] / 1e6:.2f} M updates/s")
        times = [recovery_ms(folder, keys) for _ in range(3 if args.quick else 7)]
        found[f"{keys} keys"] = {"p50_ms": statistics.median(times), "max_ms": max(times), "keys": keys}
        say(f"w6 {keys} keys: {statistics.median(times):.0f} ms")
        shutil.rmtree(folder)
    return found


def table(result):
    one = result["updates"]
    yield (f"W5a {one['keys'] / 1e6:.0f} M keys, durable updates", f"{one['rows_per_s'] / 1e6:.2f} M/s",
           f"{one['cpu_s_per_m_rows']:.3f} CPU-s/M, {one['bytes_per_key']:.0f} B a key over an empty process", "6 M/s, 64 B",
           verdict(one["rows_per_s"] >= GOAL_UPDATES and one["bytes_per_key"] <= GOAL_BYTES))
    for name, part in result.items():
        if name == "updates":
            continue
        goal = GOALS_MS.get(part["keys"], 1000)
        yield (f"W6 kill -9 to first commit, {name}", f"p50 {part['p50_ms']:.0f} ms", f"max {part['max_ms']:.0f} ms",
               f"<= {goal} ms", verdict(part["p50_ms"] <= goal))
