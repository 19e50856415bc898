"""Rows H of the fault catalogue (docs/faults.md): bad input, as tables with exact values. Each line goes through the real program:
what is good comes out as it says, what is bad ends with code 65 and a line that names place and reason."""
import json
import os
import resource
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from invariants import FaultCase  # noqa: E402  pylint: disable=wrong-import-position

CPU_SECONDS_MAX = 10  # of one run: what takes longer is not linear


class Data(FaultCase):
    def read_lines(self, columns, data, fmt="json", options="", select="*", progress="none"):
        """One run over standard input; rows come back as JSON."""
        sql = (f"CREATE TABLE s ({columns}) WITH (connector = 'stdin', format = '{fmt}'{options});"
               "CREATE TABLE o WITH (connector = 'console', style = 'json');"
               f"INSERT INTO o SELECT {select} FROM s")
        self.write("data", data)

        def limit():
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))

        with open(self.path("data"), "rb") as stdin:
            return self.run_cli("run", "--progress", progress, "-e", sql, stdin=stdin, preexec_fn=limit)

    def good(self, columns, table, **more):
        """table: pairs of a line and the row's JSON; all in one run, in order."""
        done = self.read_lines(columns, b"\n".join(line for line, _ in table) + b"\n", **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines(), [row for _, row in table])

    def bad(self, columns, table, **more):
        """table: pairs of a line and a part of the reason. The line before it is read first: the second line is named."""
        for line, reason in table:
            with self.subTest(line=line[:60]):
                done = self.read_lines(columns, line + b"\n", **more)
                self.stopped(done, 65, "line 1", reason, "on_error = 'skip'")

    # ---- JSON ----

    def test_H2_deep_wide_and_double_keys(self):
        def nested(depth):
            return b'{"x":' + b"[" * depth + b"]" * depth + b',"v":"x"}'

        million = b"{" + b",".join(b'"k%d":1' % i for i in range(1000000)) + b',"v":"x"}'
        self.good("v VARCHAR", [
            (b'{"v":"first","v":"last"}', '{"v":"last"}'),
            (b'{"v":1,"v":null}', "{}"),
            (b'{"\\u0076":"escaped key"}', '{"v":"escaped key"}'),
            (nested(63), '{"v":"x"}'),
            (million, '{"v":"x"}'),
            (b'{"' + b"k" * 10000000 + b'":1,"v":"x"}', '{"v":"x"}'),
            (b"{" + b'"same":1,' * 300000 + b'"v":"x"}', '{"v":"x"}')])
        self.bad("v VARCHAR", [(nested(64), "deeper than 64"), (nested(1000000), "deeper than 64"),
                               (b'{"x":' + b'{"x":' * 1000000 + b"1" + b"}" * 1000001, "deeper than 64")])

    def test_H3_numbers_are_exact_or_refused(self):
        self.good("v BIGINT", [
            (b'{"v":-0}', '{"v":0}'), (b'{"v":9007199254740993}', '{"v":9007199254740993}'),
            (b'{"v":9223372036854775807}', '{"v":9223372036854775807}'),
            (b'{"v":-9223372036854775808}', '{"v":-9223372036854775808}'), (b'{"v":1.0}', '{"v":1}'), (b'{"v":1e2}', '{"v":100}')])
        self.bad("v BIGINT", [(b'{"v":%s}' % text, f"'{text.decode()}' is not a BIGINT") for text in
                              (b"1e999", b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"01", b"1.5")])
        self.good("v DOUBLE", [
            (b'{"v":1e-400}', '{"v":0.0}'), (b'{"v":-0}', '{"v":-0.0}'), (b'{"v":0.1}', '{"v":0.1}'),
            (b'{"v":0.30000000000000004}', '{"v":0.30000000000000004}'), (b'{"v":5e-324}', '{"v":5e-324}'),
            (b'{"v":1.7976931348623157e308}', '{"v":1.7976931348623157e+308}')])
        self.bad("v DOUBLE", [(b'{"v":1e999}', "'1e999' is not a DOUBLE"), (b'{"v":01}', "'01' is not a DOUBLE"),
                              (b'{"v":NaN}', "no value where one belongs"), (b'{"v":-Infinity}', "'-Infinity' is not a DOUBLE")])

    def test_H4_broken_text_is_refused_and_nul_is_kept(self):
        self.good("v VARCHAR", [
            (b'\xef\xbb\xbf{"v":"behind a mark"}', '{"v":"behind a mark"}'),
            (b'{"v":"\\ud83d\\ude00"}', '{"v":"\U0001f600"}'), (b'{"v":"a\\u0000b"}', '{"v":"a\\u0000b"}'),
            (b'{"v":"\xef\xbf\xbe"}', '{"v":"\ufffe"}'), (b'{"v":"\xf4\x8f\xbf\xbf"}', '{"v":"\U0010ffff"}')])
        self.bad("v VARCHAR", [
            (b'{"v":"\\ud800"}', "half a surrogate pair"), (b'{"v":"\\udc00\\ud800"}', "half a surrogate pair"),
            (b'{"v":"\\ud800\\u0041"}', "half a surrogate pair"),
            (b'{"v":"\xc0\x80"}', "byte 7 of the line is not valid UTF-8"), (b'{"v":"\xe0\x80\xaf"}', "byte 7"),
            (b'{"v":"\xe2\x82"}', "not valid UTF-8"), (b'{"v":"\xed\xa0\x80"}', "not valid UTF-8"),
            (b'{"v":"\xf4\x90\x80\x80"}', "not valid UTF-8"), (b'{"v":"\xff"}', "not valid UTF-8"),
            (b'{"v":"a\x00b"}', "a control character in a string at byte 8"), (b'\xff\xfe{"v":1}', "not valid UTF-8")])
        done = self.read_lines("v VARCHAR", b'{"v":"a\\u0000b"}\n', select="length(v) AS n, v = 'a' AS cut")
        self.assertEqual(done.stdout, '{"n":3,"cut":false}\n', done.stderr)

    # ---- CSV and text ----

    def test_H5_csv_out_of_form(self):
        two = "a VARCHAR, b VARCHAR"
        self.good(two, [(b"a,b\r", '{"a":"a","b":"b"}'), (b",", "{}"), (b'"",', '{"a":""}'), (b'"a""b","c,\nd"', '{"a":"a\\"b","b":"c,\\nd"}'),
                        (b"a\x00b,c", '{"a":"a\\u0000b","b":"c"}'), (b" a , b ", '{"a":" a ","b":" b "}')], fmt="csv")
        self.bad(two, [(b'"open,1\n2,3', "a quoted field without its end"), (b'a"b,c', "a quote inside a field"),
                       (b'"a"x,b', "bytes behind a closing quote"), (b"a", "1 columns where there must be 2"),
                       (b"a,b,c", "3 columns where there must be 2"), (b"a,b\rc,d\r", "3 columns where there must be 2"),
                       (b",".join([b"x"] * 100000), "100000 columns where there must be 2"), (b"," * 99999, "100000 columns")],
                 fmt="csv")
        for empty in (b"", b"\n", b"\n\r\n\n"):
            done = self.read_lines(two, empty, fmt="csv")
            self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.write("in/a.csv", b'"' + b"x" * 3000000 + b"\n" + b"a,b\n" * 1000)
        self.write("c.sql", "CREATE TABLE s (a VARCHAR, b VARCHAR) WITH (connector = 'file', path = 'in', format = 'csv', "
                   "max_line_bytes = '1 MB');\nSELECT * FROM s;\n")
        self.stopped(self.run_cli("run", "--until-caught-up", "c.sql"), 65, "in/a.csv", "max_line_bytes")
        done = self.read_lines(two, b"a\x00b", fmt="csv", options=", delimiter = '\\0'")
        self.assertIn(done.returncode, (64, 78), done.stderr + done.stdout)

    def test_H6_H7_lines_of_any_bytes(self):
        self.good("value BLOB", [(b"a\x00b", '{"n":3}'), (b"\xff\xfe", '{"n":2}'), (b"", '{"n":0}'), (b"\xe4 und \xc3\xa4", '{"n":8}')],
                  fmt="text", select="octet_length(value) AS n")
        done = self.read_lines("value VARCHAR", b"first\nlast without its end", fmt="text")
        self.assertEqual(done.stdout, '{"value":"first"}\n{"value":"last without its end"}\n', done.stderr)
        self.bad("value VARCHAR", [(b"\xff", "not valid UTF-8")], fmt="text")
        done = self.read_lines("value VARCHAR", b"x" * 2000001 + b"\nnext\n", fmt="text", options=", max_line_bytes = '1 MB'",
                               progress="json")
        self.assertEqual((done.returncode, done.stdout), (0, '{"value":"next"}\n'))
        self.assertIn("dropped a line longer than max_line_bytes", done.stderr)
        self.assertEqual(json.loads(done.stderr.splitlines()[-1])["metrics"]["receiver_records_dropped"], 1)

    # ---- values ----

    def test_H8_times_are_exact_or_refused(self):
        self.good("v TIMESTAMP", [
            (b'{"v":"0001-01-01T00:00:00Z"}', '{"v":"0001-01-01T00:00:00.000Z"}'),
            (b'{"v":"1582-10-10T00:00:00Z"}', '{"v":"1582-10-10T00:00:00.000Z"}'),
            (b'{"v":"9999-12-31T23:59:59.999999Z"}', '{"v":"9999-12-31T23:59:59.999999Z"}'),
            (b'{"v":"2024-01-01T00:00:00+14:00"}', '{"v":"2023-12-31T10:00:00.000Z"}'),
            (b'{"v":"1969-12-31T23:59:59.999999Z"}', '{"v":"1969-12-31T23:59:59.999999Z"}')])
        self.bad("v TIMESTAMP", [(b'{"v":"%s"}' % text, f"'{text.decode()}' is not a TIMESTAMP") for text in
                                 (b"9999-12-31T23:59:60Z", b"2024-01-01T24:00:01Z", b"2024-02-30T00:00:00Z", b"2024-13-01T00:00:00Z",
                                  b"999999-01-01T00:00:00Z", b"2024-01-01T00:00:00+25:00")])

    def one_value(self, expression):
        return self.read_lines("v BIGINT", b'{"v":1}\n', select=expression + " AS r")

    def test_H9_arithmetic_that_does_not_fit_is_an_error_or_null(self):
        least = "(-9223372036854775808)::BIGINT"
        for expression, result in (("v % 0", "{}"), ("v // 0", "{}"), (f"{least} + v", '{"r":-9223372036854775807}'),
                                   ("(0.1::DECIMAL(38,1) + v)", '{"r":1.1}'), ("1 << (v + 60)", '{"r":2305843009213693952}')):
            done = self.one_value(expression)
            self.assertEqual((done.returncode, done.stdout.strip()), (0, result), expression + done.stderr)
        for expression, reason in (
                ("9223372036854775807::BIGINT + v", "overflow in addition"), (f"{least} // (v - 2)", "overflow in division"),
                (f"{least} % (v - 2)", "overflow in division"), (f"abs({least} * v)", "overflow on abs"),
                (f"-({least} * v)", "overflow"), ("1 << (v + 70)", "out of range"), ("-1 << v", "negative number"),
                ("(-128)::TINYINT * (v - 2)::TINYINT", "overflow in multiplication"), ("to_timestamp(1e300 * v)", "out of range"),
                ("sqrt(-1 * v)", "negative number"), ("ln(0 * v)", "zero"), ("cast(v * 3000000000 AS INTEGER)", "out of range"),
                ("99999999999999999999999999999999999999::DECIMAL(38,0) * (v + 1)", "verflow")):
            done = self.one_value(expression)
            self.stopped(done, 65, reason)

    def test_H12_the_empty_text_and_null_stay_apart_in_every_format(self):
        for fmt, data, back in (
                ("json", b'{"k":1,"v":""}\n{"k":2,"v":null}\n{"k":3}\n{"k":4,"v":"null"}\n', [["1", ""], ["2", None], ["3", None], ["4", "null"]]),
                ("csv", b'1,""\n2,\n3,NULL\n4,"NULL"\n', [["1", ""], ["2", None], ["3", "NULL"], ["4", "NULL"]])):
            for name in os.listdir(self.path("in")):
                os.unlink(self.path("in", name))
            self.write("in/a", data)
            table = "k VARCHAR, v VARCHAR" if fmt == "csv" else "k BIGINT, v VARCHAR"
            self.write("r.sql", f"SET checkpoint = '{fmt}.cp';\nCREATE TABLE s ({table}) WITH (connector = 'file', path = 'in', format = '{fmt}');\n"
                       f"CREATE TABLE o WITH (connector = 'file', path = '{fmt}.out', format = '{fmt}');\nINSERT INTO o SELECT k, v FROM s;\n")
            done = self.run_cli("run", "--until-caught-up", "r.sql")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.write("b.sql", f"SET checkpoint = '{fmt}.cp2';\nCREATE TABLE s ({table}) WITH (connector = 'file', path = '{fmt}.out', format = '{fmt}');\n"
                       "CREATE TABLE o WITH (connector = 'console', style = 'json');\nINSERT INTO o SELECT k::VARCHAR AS k, v FROM s;\n")
            done = self.run_cli("run", "--until-caught-up", "b.sql")
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual([[row["k"], row.get("v")] for row in rows], back, fmt + done.stderr)

    def test_H18_lists_and_structs_empty_and_deep(self):
        for columns, table in (
                ("v INTEGER[]", [(b'{"v":[]}', '{"v":[]}'), (b'{"v":[1,null]}', '{"v":[1,null]}'), (b'{"v":null}', "{}"), (b"{}", "{}")]),
                ("v INTEGER[][]", [(b'{"v":[[],[1],null]}', '{"v":[[],[1],null]}')]),
                ("v STRUCT(a INTEGER, b VARCHAR)", [(b'{"v":{}}', '{"v":{}}'), (b'{"v":{"b":"x","z":1}}', '{"v":{"b":"x"}}'), (b'{"v":null}', "{}")]),
                ("v STRUCT(a INTEGER[])[]", [(b'{"v":[{"a":[1]},null,{"a":null},{}]}', '{"v":[{"a":[1]},null,{},{}]}')])):
            self.good(columns, table)
        self.bad("v INTEGER[]", [(b'{"v":{"a":1}}', "is not a INTEGER[]"), (b'{"v":[1,"x"]}', "is not a INTEGER"), (b'{"v":[1', "not valid JSON")])
        self.bad("v STRUCT(a INTEGER)", [(b'{"v":[]}', "is not a STRUCT"), (b'{"v":{"a":"x"}}', "is not a INTEGER")])

    # ---- SQL ----

    def check(self, sql, code, *texts):
        def limit():
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))

        self.write("h.sql", sql)
        return self.stopped(self.run_cli("check", "h.sql", preexec_fn=limit), code, *texts)

    def test_H13_twisted_sql_is_refused_with_its_place(self):
        table = "CREATE TABLE s (v BIGINT) WITH (connector = 'stdin', format = 'json');\n"
        for sql, code, text in (
                ("SELECT 'open", 64, "h.sql:2:8"), ("SELECT \"open", 64, "h.sql:2:8"), ("SELECT 1 /* open", 64, "h.sql:2:10"),
                ("SELECT v FROM s WHERE v \u2010 1 > 0;", 64, "h.sql:2:"), ("SELECT \u0430 FROM s;", 64, "h.sql:2:"),  # a Cyrillic a
                ("SEL\u200bECT v FROM s;", 64, "h.sql:2:1"), ("SELECT v FROM s WHERE v = 'a\x00b';", 64, "h.sql:2:"),
                ("SELECT v FROM s WHERE v IN (" + "1," * 600000 + "1);", 71, "1048576 are allowed")):
            with self.subTest(sql=sql[:40]):
                self.check(table + sql, code, text)
        self.write("h.sql", table.encode() + b"SELECT v FROM s WHERE v = '\xff';")
        self.stopped(self.run_cli("check", "h.sql"), 64, "h.sql:2:")

    def test_H13_a_hundred_thousand_items_are_planned_and_right(self):
        items = ",".join(str(i * 2) for i in range(100000))
        self.write("i.sql", "CREATE TABLE s (v BIGINT) WITH (connector = 'stdin', format = 'json');\n"
                   "CREATE TABLE o WITH (connector = 'console', style = 'json');\n"
                   f"INSERT INTO o SELECT v, v IN ({items}) AS there FROM s;\n")
        self.write("data", b'{"v":199998}\n{"v":3}\n')
        with open(self.path("data"), "rb") as stdin:
            done = self.run_cli("run", "i.sql", stdin=stdin)
        self.assertEqual(done.stdout, '{"v":199998,"there":true}\n{"v":3,"there":false}\n', done.stderr)

    def test_H14_patterns_that_take_for_ever_elsewhere_take_no_time(self):
        for expression in ("regexp_matches(repeat('a', 30000), '(a*)*b')", "regexp_matches(repeat('a', 30000), '(a|aa)+$b')",
                           "regexp_matches(repeat('x', 5000), '^(([a-z])+.)+[A-Z]([a-z])+$')",
                           "repeat('a', 5000) LIKE repeat('%a', 60) || '_b'", "repeat('a', v * 5000) LIKE '%a%a%a%a%a%a%a%a_b'",
                           "repeat('a', 5000) SIMILAR TO '(a*)*b'"):
            done = self.one_value(f"({expression}) AND v = 1")
            self.assertEqual((done.returncode, done.stdout), (0, '{"r":false}\n'), expression + done.stderr)

    def test_H17_many_and_long_keys(self):
        data = b"".join(b'{"v":"%s%d"}\n' % (b"k" * 2000, i % 500) for i in range(5000))
        self.write("data", data)
        with open(self.path("data"), "rb") as stdin:
            done = self.run_cli("run", "-e", "CREATE TABLE s (v VARCHAR) WITH (connector = 'stdin', format = 'json');"
                                "CREATE TABLE o WITH (connector = 'console', style = 'json'); SET output_mode = 'complete';"
                                "INSERT INTO o SELECT v, count(*) AS n FROM s GROUP BY v", stdin=stdin)
        rows = [json.loads(line) for line in done.stdout.splitlines()[-500:]]
        self.assertEqual(len({row["v"] for row in rows}), 500, done.stderr[-500:])
        self.assertEqual({row["n"] for row in rows}, {10})


if __name__ == "__main__":
    unittest.main()
