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


# Structured Streaming: the ids are in tests/flow/vectors/structured_ids.txt by section, the rows in structured_<section>.inc:
#     VECTOR("AGG-01", "what it is about")            a test with the id in its name checks it
#     DIFFERS("AGG-10", "what we do instead, why")    decided otherwise; a test where there is something to check
#     LATER("KN-01", "why")                           not part of millrace yet
# The test is TEST(AGG_01_...) in C, def test_AGG_01_... in Python, or TEST 'AGG-01 ...' in a file of tests/sql.
STRUCTURED_MACROS = ["VECTOR", "DIFFERS", "LATER"]


def structured_ids():
    """section -> ids"""
    with open(os.path.join(TESTS, "flow", "vectors", "structured_ids.txt"), encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    return {line.split(":")[0]: line.split(":")[1].split() for line in lines}


def structured_rows():
    """(id, macro, section) of every row."""
    for path, text in texts("flow/vectors/structured_*.inc"):
        section = re.fullmatch(r"structured_(\w+)\.inc", os.path.basename(path)).group(1)
        for macro, name in re.findall(r'^(\w+)\(\s*"([^"]*)"', text, re.M):
            yield name, macro, section


def structured_tested():
    """The ids in the names of tests; those that only look like one of another collection are left out by the prefix."""
    prefixes = {name.split("-")[0] for names in structured_ids().values() for name in names}
    found = set()
    for _, text in list(texts("**/*.c")) + list(texts("system/*.py")) + list(texts("flow/vectors_structured.inc")):
        for name in re.findall(r"^TEST\(\s*(\w+)\s*\)|^    def test_(\w+)\(|^VECTOR\((\w+),", text, re.M):
            for prefix, number in re.findall(r"(?:^|(?<=_))([A-Z]+)_(\d+)(?=_|$)", "".join(name)):
                found.add(f"{prefix}-{number}")
    for _, text in texts("sql/*.sql"):
        for title in re.findall(r"^\s*TEST\s+'([^']*)'", text, re.M):
            found.update(re.findall(r"\b([A-Z]+-\d+)\b", title))
    return {name for name in found if name.split("-")[0] in prefixes}


class StructuredVectors(unittest.TestCase):
    def test_every_id_is_in_the_table_once(self):
        counts = collections.Counter(name for name, _, _ in structured_rows())
        missing = [f"{name} ({section})" for section, names in structured_ids().items() for name in names if counts[name] == 0]
        self.assertEqual([name for name, count in counts.items() if count > 1], [], "two rows")
        self.assertEqual(missing, [], "no row")

    def test_every_row_is_in_the_file_of_its_section(self):
        section_of = {name: section for section, names in structured_ids().items() for name in names}
        self.assertEqual([row for row in structured_rows() if section_of.get(row[0]) != row[2]], [])

    def test_every_row_has_a_macro_of_the_table(self):
        self.assertEqual([row for row in structured_rows() if row[1] not in STRUCTURED_MACROS], [])

    def test_every_vector_has_its_test(self):
        found = structured_tested()
        self.assertEqual([f"{name} ({section})" for name, macro, section in structured_rows()
                          if macro == "VECTOR" and name not in found], [])

    def test_no_test_cites_an_id_that_is_not_in_the_collection(self):
        known = {name for names in structured_ids().values() for name in names}
        self.assertEqual([name for name in sorted(structured_tested()) if name not in known], [])


if __name__ == "__main__":
    unittest.main()
