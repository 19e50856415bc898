"""W2: Nexmark. Each query over events made in the process, in durable batches, beside DuckDB over the same events as Parquet."""
import glob
import os
import re
import shutil
import tempfile

from common import HERE, MILLRACE, SUMMED, Failed, checksum, program, run, say, side, verdict

PROGRAMS = ["duck_batch"]
FOLDER = os.path.join(HERE, "nexmark")
BATCHES = 20
GAP_NS = 1000
# What Feldera publishes, in millions of events a second and core (spec of the workloads); others are not known to us.
FELDERA = {"q0": 0.436, "q4": 0.265, "q5": 0.412, "q7": 0.196}
DUCK_TABLES = "CREATE VIEW {0} AS SELECT * FROM '{1}/{0}/*.parquet';\n"
# Update mode sends a group again when it changes: its sum is DuckDB's only if everything is one batch.
UPDATES = {"q4", "q6", "q15", "q16", "q17", "q18", "q19"}
REPLAYED = {"q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8"}
NOT_COMPARED = {"q12"}  # windows of the clock


def text_of(name):
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return file.read()


def queries():
    names = [os.path.basename(path)[:-4] for path in glob.glob(os.path.join(FOLDER, "q*.sql"))]
    return sorted((name for name in names if not name.endswith("_duck")), key=lambda name: int(name[1:]))


def export(events, folder):
    for table in ("person", "auction", "bid"):
        run([MILLRACE, "run", "--until-caught-up", os.path.join(FOLDER, "export.sql")],
            {"TABLE": table, "EVENTS": str(events), "GAP_NS": str(GAP_NS), "FOLDER": os.path.join(folder, table)})


def ours(args, name, events, batches, mode="generate"):
    checkpoint = tempfile.mkdtemp(prefix="checkpoint-", dir=args.disk)
    try:
        return run([*SUMMED, os.path.join(FOLDER, f"{name}.sql")],
                   {"EVENTS": str(events), "EVENTS_PER_BATCH": str(-(-events // batches)), "GAP_NS": str(GAP_NS),
                    "CHECKPOINT": checkpoint, "MODE": mode})
    finally:
        shutil.rmtree(checkpoint)


def duck(args, name, folder, reference):
    script = os.path.join(folder, f"{name}.sql")
    select = re.sub(r";\s*$", "", text_of(f"{name}_duck.sql").strip())
    with open(script, "w", encoding="utf-8") as file:
        file.write("".join(DUCK_TABLES.format(table, folder) for table in ("person", "auction", "bid")))
        file.write(f"COPY (\n{select}\n) TO '{reference}' (FORMAT csv, HEADER true);\n")
    return run([program("duck_batch"), str(args.threads), script])


def sum_of_reference(name, folder, reference):
    """DuckDB's rows through the sink whose sum ours is."""
    columns = re.search(r"CREATE TABLE results \((.*?)\)\s*\n?\s*WITH", text_of(f"{name}.sql"), re.S).group(1)
    script = os.path.join(folder, f"{name}_check.sql")
    with open(script, "w", encoding="utf-8") as file:
        file.write(f"CREATE TABLE reference ({columns}) WITH (connector = 'file', path = '{reference}', format = 'csv', "
                   f"header = true);\nCREATE TABLE results ({columns}) WITH (connector = 'null');\n"
                   "INSERT INTO results SELECT * FROM reference;\n")
    return checksum(run([*SUMMED, script])["stderr"])


def compare(args, name, events, folder):
    reference = os.path.join(folder, f"{name}.csv")
    theirs = duck(args, name, folder, reference)
    want = sum_of_reference(name, folder, reference)
    one_batch = checksum(ours(args, name, events, 1)["stderr"]) if name in UPDATES else None
    samples, sums = [], []
    for _ in range(args.rounds):
        samples.append(ours(args, name, events, BATCHES))
        sums.append(checksum(samples[-1]["stderr"]))
    have = [one_batch] if one_batch is not None else sums
    for one in have:
        if (one["rows"], one["sum"]) != (want["rows"], want["sum"]):
            raise Failed(f"{name}: the results differ: millrace {one}, DuckDB {want}; its speed is void")
    if len({(one["rows"], one["sum"]) for one in sums}) != 1:
        raise Failed(f"{name}: its rounds differ: {sums}; its speed is void")
    return {"millrace": side(events, samples), "duckdb": side(events, [theirs]), "result_rows": want["rows"],
            "checksum": want["sum"]}


def alone(args, name, events):
    samples = [ours(args, name, events, BATCHES) for _ in range(args.rounds)]
    return {"millrace": side(events, samples)}


def replayed(args, name, events):
    """Events a second when they are shown again instead of made: what as many more cost, so that making the first does not count."""
    times = []
    for _ in range(args.rounds):
        one, three = (ours(args, name, count, 10 * count // events, "replay")["wall_s"] for count in (events, 3 * events))
        times.append((three - one) / 2)
    return events / sorted(times)[len(times) // 2]


def bench(args, work):
    events = args.events
    folder = os.path.join(work, "nexmark")
    os.mkdir(folder)
    found = {"events": events, "cores": args.threads}
    export(events, folder)
    for name in queries():
        try:
            found[name] = alone(args, name, events) if name in NOT_COMPARED else compare(args, name, events, folder)
        except Failed as error:
            args.failed[f"w2 {name}"] = str(error)
            continue
        if name in REPLAYED:
            found[name]["replay_per_s"] = replayed(args, name, events // 2)
        say(f"w2 {name}: {found[name]['millrace']['rows_per_s'] / 1e6:.1f} M events/s")
    shutil.rmtree(folder)
    return found


def table(result):
    for name, one in result.items():
        if not isinstance(one, dict):
            continue
        speed = one["millrace"]["rows_per_s"] / 1e6
        beside = f"{one['millrace']['cpu_s_per_m_rows']:.3f} CPU-s/M, {one['millrace']['peak_rss_mb']:.0f} MB"
        if "duckdb" in one:
            beside += f"; DuckDB {one['duckdb']['rows_per_s'] / 1e6:.1f}"
        if "replay_per_s" in one:
            beside += f"; replay {one['replay_per_s'] / 1e6:.1f}"
        goal = FELDERA.get(name)
        yield (f"W2 Nexmark {name}", f"{speed:.1f} M events/s", beside,
               f"{3 * goal * result['cores']:.1f} (3 x Feldera a core)" if goal else "",
               verdict(speed >= 3 * goal * result["cores"]) if goal else "")
