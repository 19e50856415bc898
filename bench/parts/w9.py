"""W9: a filter over JSON lines, file to file, beside DuckDB."""
import os
import shutil
import tempfile

from common import HERE, MILLRACE, SUMMED, Failed, checksum, last_json, program, run, say, side, verdict

PROGRAMS = ["gen_ads", "duck_batch"]
GOAL_PER_S = 6e6


def sum_of(path):
    one = checksum(run([*SUMMED, os.path.join(HERE, "w9_check.sql")], {"OUTPUT": path})["stderr"])
    return one["rows"], one["sum"]


def ours(args, events, output):
    checkpoint = tempfile.mkdtemp(prefix="checkpoint-", dir=args.disk)
    try:
        return run([MILLRACE, "run", "--until-caught-up", os.path.join(HERE, "w9.sql")],
                   {"EVENTS": events, "OUTPUT": output, "CHECKPOINT": checkpoint})
    finally:
        shutil.rmtree(checkpoint)


def bench(args, work):
    events, ads = os.path.join(work, "w9-events.json"), os.path.join(work, "w9-ads.csv")
    made = last_json(run([program("gen_ads"), str(args.ads_rows), events, ads])["stdout"])
    samples = {"millrace": [], "duckdb": []}
    for number in range(args.rounds):
        output = os.path.join(args.disk, "w9-views")
        reference = os.path.join(args.disk, "w9-views.json")
        samples["millrace"].append(ours(args, events, output))
        samples["duckdb"].append(run([program("duck_batch"), str(args.threads), os.path.join(HERE, "w9_duck.sql"),
                                      f"EVENTS={events}", f"OUTPUT={reference}"]))
        have, want = sum_of(output), sum_of(reference)
        shutil.rmtree(output)
        os.remove(reference)
        if have != want:
            raise Failed(f"w9: the results differ: millrace {have}, DuckDB {want}; its speed is void")
        say(f"w9 round {number + 1}: millrace {made['rows'] / samples['millrace'][-1]['wall_s'] / 1e6:.2f} M rows/s")
    os.remove(events)
    result = {name: side(made["rows"], both) for name, both in samples.items()}
    result["ratio"] = result["millrace"]["rows_per_s"] / result["duckdb"]["rows_per_s"]
    result["checksum"] = want[1]
    return result


def table(result):
    one, other = result["millrace"], result["duckdb"]
    yield ("W9 JSON filter, file to file on disk", f"{one['rows_per_s'] / 1e6:.2f} M rows/s",
           f"DuckDB {other['rows_per_s'] / 1e6:.2f}, ratio {result['ratio']:.2f}; {one['cpu_s_per_m_rows']:.3f} CPU-s/M, "
           f"{one['peak_rss_mb']:.0f} MB", "6 M rows/s", verdict(one["rows_per_s"] >= GOAL_PER_S))
