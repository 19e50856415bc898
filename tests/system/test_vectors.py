"""The collection of DStream vectors: every id is in the table once and has the test that it promises.

The table is tests/flow/vectors_dstream.inc with its sections in tests/flow/vectors/. A test that checks a vector has its id in
its name: TEST(V82_update_state_by_key_sums_into_the_state), or test_V293_... in Python; several ids may be in one name.
"""
import collections
import glob
import os
import re
import unittest

SOURCE = os.environ["MILLRACE_SOURCE_DIR"]
TESTS = os.path.join(SOURCE, "tests")
MACROS = ["VECTOR", "CASE", "DIFFERS", "LATER"]

def ids_of_the_collection():
    with open(os.path.join(TESTS, "flow", "vectors", "ids.txt"), encoding="utf-8") as file:
        return [int(word) for line in file if not line.startswith("#") for word in line.split()]


def texts(pattern):
    for path in sorted(glob.glob(os.path.join(TESTS, pattern), recursive=True)):
        with open(path, encoding="utf-8") as file:
            yield path, file.read()


def rows():
    """(id, macro, file) of every row of the table."""
    for path, text in texts("flow/vectors/*.inc"):
        for macro, number in re.findall(r'^(\w+)\(\s*"V(\d+)"', text, re.M):
            yield int(number), macro, os.path.basename(path)


def tested():
    """The ids in the names of tests."""
    found = set()
    for _, text in list(texts("**/*.c")) + list(texts("system/*.py")):
        for name in re.findall(r"^TEST\(\s*(\w+)\s*\)|^    def test_(\w+)\(", text, re.M):
            found.update(int(word[1:]) for word in "".join(name).split("_") if re.fullmatch(r"V\d+", word))
    return found


class Vectors(unittest.TestCase):
    def test_every_id_of_the_collection_is_in_the_table_once(self):
        counts = collections.Counter(number for number, _, _ in rows())
        self.assertEqual([f"V{n}" for n in ids_of_the_collection() if counts[n] == 0], [], "no row")
        self.assertEqual([f"V{n}" for n, count in counts.items() if count > 1], [], "two rows")

    def test_every_row_has_a_macro_of_the_table(self):
        self.assertEqual([row for row in rows() if row[1] not in MACROS], [])

    def test_every_vector_and_case_has_its_test(self):
        found = tested()
        self.assertEqual([f"V{n} ({file})" for n, macro, file in rows() if macro in ("VECTOR", "CASE") and n not in found], [])

    def test_no_test_cites_an_id_that_is_not_in_the_table(self):
        known = {number for number, _, _ in rows()}
        self.assertEqual([f"V{n}" for n in sorted(tested()) if n not in known], [])


if __name__ == "__main__":
    unittest.main()
