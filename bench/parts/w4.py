"""W4: the 100 most frequent of 1 M keys (Zipf, s = 1.1) in the last 30 seconds, every second, with an inverse function.

A second of records is a file; few different ones are linked under the names of many, so that a minute of input fits into memory.
"As fast as it goes" makes a second of the program one millisecond of the clock: the same batches and windows, one behind the other.
"""
import os
import shutil
import statistics
import tempfile

from common import Failed, last_json, program, quantile, run, say, verdict

PROGRAMS = ["gen_w4", "w4_check", "w4_topk"]
FILES, WINDOW, GOAL_ROWS, GOAL_MS = 4, 30, 3_500_000, 50


def link_seconds(inputs, batches, work):
    """batch-00000 ... in the order in which the source takes them: by time, which is the same, and name."""
    folder = tempfile.mkdtemp(prefix="w4-links-", dir=work)
    for number in range(FILES):
        os.utime(os.path.join(inputs, f"part-{number:05}"), (1e9, 1e9))
    for number in range(batches):
        os.link(os.path.join(inputs, f"part-{number % FILES:05}"), os.path.join(folder, f"batch-{number:05}"))
    return folder


def measure(args, rows, batches, inputs, want, work):
    checkpoint = tempfile.mkdtemp(prefix="w4-", dir=args.disk)
    links = link_seconds(inputs, batches, work)
    sample = run([program("w4_topk"), links, checkpoint, "1", str(batches)])
    shutil.rmtree(checkpoint)
    shutil.rmtree(links)
    found = last_json(sample["stdout"])
    if (found["batches"], found["sum"]) != (batches, want):
        raise Failed(f"w4: the results differ: {found['batches']} batches, {found['sum']} for {want}; its speed is void")
    # What is measured is the full window: the batches before it are only what fills it.
    batch_ms, slide_ms = found["batch_ms"][WINDOW:], found["slide_ms"][WINDOW + 1:]
    return {"rows_per_s": rows / statistics.mean(batch_ms) * 1000, "batch_p50_ms": quantile(batch_ms, 0.5),
            "batch_max_ms": max(batch_ms), "slide_p50_ms": quantile(slide_ms, 0.5), "slide_max_ms": max(slide_ms),
            "cpu_s_per_m_rows": sample["cpu_s"] / (rows * batches) * 1e6, "peak_rss_mb": sample["rss_mb"]}


def bench(args, work):
    rows, batches = (350_000, 40) if args.quick else (GOAL_ROWS, 60)
    inputs = tempfile.mkdtemp(prefix="w4-", dir=work)
    run([program("gen_w4"), str(FILES), str(rows), inputs])
    check = last_json(run([program("w4_check"), inputs, str(FILES), str(batches)])["stdout"])
    rounds = []
    for number in range(min(args.rounds, 3)):
        rounds.append(measure(args, rows, batches, inputs, check["sum"], work))
        say(f"w4 round {number + 1}: {rounds[-1]['rows_per_s'] / 1e6:.2f} M records/s, "
            f"slide {rounds[-1]['slide_p50_ms']:.1f} ms")
    shutil.rmtree(inputs)
    middle = sorted(rounds, key=lambda one: one["rows_per_s"])[len(rounds) // 2]
    return {"rows_per_batch": rows, "batches": batches, "keys": check["keys"], "checksum": check["sum"], **middle,
            "rounds": rounds}


def table(result):
    yield ("W4 sliding top-k, 1 M keys", f"{result['rows_per_s'] / 1e6:.2f} M records/s",
           f"{result['peak_rss_mb']:.0f} MB, {result['cpu_s_per_m_rows']:.3f} CPU s/M", "3.5 M records/s",
           verdict(result["rows_per_s"] >= GOAL_ROWS))
    yield (f"  slide after {result['rows_per_batch']} records", f"p50 {result['slide_p50_ms']:.1f} ms",
           f"max {result['slide_max_ms']:.1f} ms", f"<= {GOAL_MS} ms", verdict(result["slide_p50_ms"] <= GOAL_MS))
