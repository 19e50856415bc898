"""foreachBatch with two outputs under kills: examples/foreach_batch.c.

The function runs before the batch is committed, so a kill in between calls it again. One output is a directory a batch, which is
replaced; the other a sum that remembers the newest batch. Both must have every row once.
"""

import collections

from _base import Scenario, lines_of, stray_files

FILES = 3
ROWS = 4


class ForeachBatch(Scenario):
    name = "foreach-batch"

    def __init__(self, tools):
        super().__init__(tools)
        self.program = tools.build and tools.build / "examples/foreach_batch"

    def missing(self):
        built = self.program and self.program.exists()
        return None if built else "examples/foreach_batch is not built"

    def prepare(self, work):
        (work / "in").mkdir()
        (work / "out").mkdir()
        for number in range(FILES):
            lines = [f'{{"v":{number * ROWS + i}}}\n' for i in range(ROWS)]
            (work / f"in/{number}.json").write_text("".join(lines))

    def command(self, work):
        return [str(self.program), str(work / "in"), str(work / "out"), str(work / "ckpt")]

    def expected(self, work):
        rows = range(FILES * ROWS)
        return collections.Counter([*(str(row) for row in rows), f"total {FILES - 1} {sum(rows)}"])

    def actual(self, work):
        found = lines_of(sorted((work / "out").glob("batch-*/part-*")))
        total = work / "out/total"
        found.update([f"total {total.read_text().strip()}"] if total.exists() else [])
        return collections.Counter({line.strip("()"): count for line, count in found.items()})

    def check(self, work):
        wrong = stray_files(work)
        batches = {path.name for path in (work / "out").glob("batch-*")}
        if batches != {f"batch-{number}" for number in range(FILES)}:
            wrong.append(f"batches {sorted(batches)}")
        return wrong


SCENARIOS = [ForeachBatch]
