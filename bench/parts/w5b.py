"""W5: state of 10 M keys. (b) updateStateByKey: each batch updates and puts out all of them; (a) mapWithState: those of its records."""
import os
import shutil
import statistics
import tempfile

from common import Failed, last_json, program, run, say, verdict

PROGRAMS = ["w5b_state"]
GOAL_MS = 200  # a batch over all keys; 60 is what the machine could do
GOAL_BYTES = 64
GOAL_RECORDS_PER_S = 12e6  # five times the best streaming engine on two cores


def one(args, mode, keys, batches, records, durable=False):
    checkpoint = tempfile.mkdtemp(prefix="checkpoint-", dir=args.disk)
    os.rmdir(checkpoint)
    try:
        sample = run([program("w5b_state"), mode, str(keys), str(batches), str(records),
                      *([checkpoint] if durable else [])])
    finally:
        shutil.rmtree(checkpoint, ignore_errors=True)
    result = last_json(sample["stdout"])
    if result["wrong"]:
        raise Failed(f"W5 {mode}: a result differs from what it must be; its speed is void")
    result["rss_mb"] = sample["rss_mb"]
    result["p50_ms"] = statistics.median(result["batch_ms"])
    return result


def bench(args, _):
    keys = 1_000_000 if args.quick else 10_000_000
    records = keys // 5
    found = {"keys": keys}
    # The first batches after loading still bring the entries into order.
    found["update"] = one(args, "update", keys, 12, 10_000)
    found["update"]["p50_ms"] = statistics.median(found["update"]["batch_ms"][3:])
    found["update"]["bytes_per_key"] = found["update"]["rss_mb"] * 1048576 / keys
    found["update"]["keys_per_s"] = keys / found["update"]["p50_ms"] * 1000
    say(f"w5b update: {found['update']['p50_ms']:.0f} ms a batch, {found['update']['bytes_per_key']:.0f} B a key")
    for durable in (False, True):
        name = "map durable" if durable else "map"
        found[name] = one(args, "map", keys, 5, records, durable)
        found[name]["records_per_s"] = records / found[name]["p50_ms"] * 1000
        say(f"w5a {name}: {found[name]['records_per_s'] / 1e6:.2f} M records/s")
    return found


def table(result):
    update, keys = result["update"], result["keys"]
    scale = keys / 10e6
    yield (f"W5b updateStateByKey, {keys / 1e6:g} M keys a batch", f"{update['p50_ms']:.0f} ms",
           f"{update['keys_per_s'] / 1e6:.0f} M keys/s", f"<= {GOAL_MS * scale:g} ms",
           verdict(update["p50_ms"] <= GOAL_MS * scale))
    yield ("W5b memory of the process, a key", f"{update['bytes_per_key']:.1f} B", f"{update['rss_mb']:.0f} MB",
           f"<= {GOAL_BYTES} B", verdict(update["bytes_per_key"] <= GOAL_BYTES))
    for name in ("map", "map durable"):
        yield (f"W5a mapWithState, {name.replace('map', '').strip() or 'in memory'}",
               f"{result[name]['records_per_s'] / 1e6:.2f} M records/s", f"{result[name]['p50_ms']:.0f} ms a batch",
               f"{GOAL_RECORDS_PER_S / 1e6:g} M/s", verdict(result[name]["records_per_s"] >= GOAL_RECORDS_PER_S))
