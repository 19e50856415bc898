"""W7: records of 250 bytes, acknowledged when they are durable in a receiver's write-ahead log; README.md says how."""
import os
import shutil
import statistics
import subprocess
import tempfile

from common import Failed, last_json, program, run, say, verdict

PROGRAMS = ["w7_received"]
SENDERS = [1, 8, 64]
PER_PUT = 1000
MISSING = 77  # RocksDB is not installed
GOAL = 1.2e6


def w7(args, mode, *arguments):
    folder = tempfile.mkdtemp(prefix="w7-", dir=args.disk)
    try:
        sample = run([program("w7_received"), mode, folder, *map(str, arguments)])
    finally:
        shutil.rmtree(folder)
    return {**last_json(sample["stdout"]), "cpu_s": sample["cpu_s"], "rss_mb": sample["rss_mb"]}


def checked(one):
    if (one["sent"], one["sent_sum"]) != (one["read"], one["read_sum"]):
        raise Failed(f"w7: {one['read']} records with the sum {one['read_sum']} were read, "
                     f"{one['sent']} with {one['sent_sum']} were acknowledged; its speed is void")
    return one


def has_rocksdb(args):
    folder = tempfile.mkdtemp(prefix="w7-", dir=args.disk)
    done = subprocess.run([program("w7_received"), "rocksdb", os.path.join(folder, "db"), "1", "10", "10"],
                          capture_output=True, check=False)
    shutil.rmtree(folder)
    if done.returncode == MISSING:
        say("w7: RocksDB is not installed (Debian: librocksdb-dev): not compared")
    return done.returncode == 0


def middle(samples):
    result = {key: statistics.median(one[key] for one in samples)
              for key in ("records_per_s", "mb_per_s", "p50_us", "p99_us")}
    result["rss_mb"] = max(one["rss_mb"] for one in samples)
    result["cpu_s_per_m_records"] = statistics.median(one["cpu_s"] / one["sent"] for one in samples) * 1e6
    result["all_records_per_s"] = [round(one["records_per_s"]) for one in samples]
    return result


def bench(args, _):
    """Rounds of bare flushes, ours and RocksDB's in turn: the disk's mood changes."""
    records, lone = (300_000, 500) if args.quick else (4_000_000, 2000)
    rocksdb = has_rocksdb(args)
    samples = {}

    def add(key, sample):
        samples.setdefault(key, []).append(sample)

    for _ in range(2 if args.quick else 3):
        add("sync_small", w7(args, "sync", 512, 1000))
        add("lone", checked(w7(args, "receive", 1, lone, 1)))
        add("sync_block", w7(args, "sync", 256 << 10, 500))
        if rocksdb:
            add("lone_rocksdb", w7(args, "rocksdb", 1, lone // 4, 1))
        for senders in SENDERS:
            add(f"received_{senders}", checked(w7(args, "receive", senders, records, PER_PUT)))
            if rocksdb:
                add(f"rocksdb_{senders}", w7(args, "rocksdb", senders, records // 10, PER_PUT))
    replay = checked(w7(args, "replay", 8, records // 2, PER_PUT))
    result = {key: middle(values) for key, values in samples.items() if not key.startswith("sync")}
    for key in ("sync_small", "sync_block"):
        result[key] = {name: statistics.median(one[name] for one in samples[key])
                       for name in ("mb_per_s", "p50_us", "p99_us")}
    result["replayed"] = {"records": replay["read"], "sum": replay["read_sum"]}
    return result


def table(result):
    unit = result["sync_small"]
    lone = result["lone"]
    yield ("W7 fdatasync of 512 B, of 256 KiB", f"p50 {unit['p50_us']:.0f} us, {result['sync_block']['p50_us']:.0f} us",
           f"{result['sync_block']['mb_per_s']:.0f} MB/s in 256 KiB", "", "")
    beside = f"RocksDB p50 {result['lone_rocksdb']['p50_us']:.0f} us" if "lone_rocksdb" in result else ""
    yield ("W7 lone record, acknowledged durable", f"p50 {lone['p50_us']:.0f} us = {lone['p50_us'] / unit['p50_us']:.2f} "
           f"syncs, p99 {lone['p99_us']:.0f}", beside, "p50 <= 1.5 syncs", verdict(lone["p50_us"] <= 1.5 * unit["p50_us"]))
    for senders in SENDERS:
        ours, theirs = result[f"received_{senders}"], result.get(f"rocksdb_{senders}")
        beside = ""
        if theirs is not None:
            ratio = ours["records_per_s"] / theirs["records_per_s"]
            beside = f"RocksDB {theirs['records_per_s'] / 1e6:.2f}, ratio {ratio:.1f}"
        yield (f"W7 received, {senders} senders", f"{ours['records_per_s'] / 1e6:.2f} M records/s, {ours['mb_per_s']:.0f} MB/s",
               beside, f"{GOAL / 1e6} M records/s", verdict(ours["records_per_s"] >= GOAL))
        yield ("  acknowledgement of 1,000", f"p50 {ours['p50_us'] / 1000:.1f} ms, p99 {ours['p99_us'] / 1000:.1f} ms",
               f"RocksDB {theirs['p50_us'] / 1000:.1f}, {theirs['p99_us'] / 1000:.1f}" if theirs else "", "", "")
        yield ("  CPU seconds per M records, memory", f"{ours['cpu_s_per_m_records']:.2f}, {ours['rss_mb']:.0f} MB", "", "", "")
    yield ("  replayed after a stop", f"{result['replayed']['records']} records, {result['replayed']['sum']}", "the same", "", "")
