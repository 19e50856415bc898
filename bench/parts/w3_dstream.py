"""W3 as a DStream program: running counts of words from text files and from a socket, with and without a checkpoint."""
import os
import shutil
import subprocess
import tempfile

from common import HERE, SUMMED, Failed, checksum, last_json, program, run, say, side, verdict

PROGRAMS = ["gen_words", "w3_dstream", "send_file", "duck_batch"]
GOAL_PER_S = 42e6  # five times the best streaming engine on two cores


def sum_of(path):
    """The checksum of a result, rows in any order."""
    return checksum(run([*SUMMED, os.path.join(HERE, "w3_check.sql")], {"REFERENCE": path})["stderr"])


def one_run(args, how, words, rows, durable, result):
    checkpoint = tempfile.mkdtemp(prefix="checkpoint-", dir=args.disk)
    os.rmdir(checkpoint)
    where = os.path.dirname(words)
    sender = None
    if how == "socket":
        # pylint: disable=consider-using-with
        sender = subprocess.Popen([program("send_file"), words], stdout=subprocess.PIPE, text=True)
        where = sender.stdout.readline().strip()
    try:
        return run([program("w3_dstream"), how, where, str(rows), checkpoint if durable else "-", result])
    finally:
        if sender is not None:
            sender.kill()
            sender.communicate()
        shutil.rmtree(checkpoint, ignore_errors=True)


def bench(args, work):
    folder = os.path.join(work, "w3-files")
    os.mkdir(folder)
    words = os.path.join(folder, "words.txt")
    made = last_json(run([program("gen_words"), str(args.words_rows), words])["stdout"])
    reference, result = os.path.join(work, "w3-reference.csv"), os.path.join(work, "w3-result.csv")
    run([program("duck_batch"), str(args.threads), os.path.join(HERE, "w3_duck.sql"), f"WORDS={words}",
         f"REFERENCE={reference}"])
    want = sum_of(reference)
    found = {"rows": made["rows"], "checksum": want["sum"]}
    for how in ("files", "socket"):
        for durable in (True, False):
            name = f"{how}, {'checkpoint' if durable else 'no checkpoint'}"
            samples = []
            for _ in range(args.rounds):
                samples.append(one_run(args, how, words, made["rows"], durable, result))
                have = sum_of(result)
                if (have["rows"], have["sum"]) != (want["rows"], want["sum"]):
                    raise Failed(f"W3 {name}: the counts differ from DuckDB's; its speed is void")
            found[name] = side(made["rows"], samples)
            say(f"w3 {name}: {found[name]['rows_per_s'] / 1e6:.1f} M words/s")
    shutil.rmtree(folder)
    return found


def table(result):
    for name, one in result.items():
        if isinstance(one, dict):
            yield (f"W3 DStream, {name}", f"{one['rows_per_s'] / 1e6:.1f} M words/s",
                   f"{one['cpu_s_per_m_rows']:.3f} CPU-s/M, {one['peak_rss_mb']:.0f} MB", "42 M words/s",
                   verdict(one["rows_per_s"] >= GOAL_PER_S))
