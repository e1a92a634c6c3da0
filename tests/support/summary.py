#!/usr/bin/python3
"""Counts test cases in meson's logs, prints the output of what failed, and says as the last line
"N passed, N failed, N skipped". Exits 0 if something passed and nothing failed.

  summary.py [--also-failed N] LOG-DIR...

Reads the run-*.json that tests/run.sh had meson leave: one line per test program, with its output.
Cases are GoogleTest's or TAP's; a program of neither kind is one case. A program that crashed, timed
out or failed outside its cases is one failed case more.
"""

import argparse
import glob
import json
import os
import re
import sys

GTEST_LINE = re.compile(r"\[ *(RUN|OK|FAILED|SKIPPED) *\] ([\w/]+\.[\w/]+)")
GTEST_END = re.compile(r"\[==========\] .* ran\.")
TAP_LINE = re.compile(r"^(not )?ok\b(?:\s+\d+)?(?:\s+-)?\s*(.*)$", re.MULTILINE)
MAX_OUTPUT = 100_000


def gtest_cases(text):
    cases = {}
    for word, name in GTEST_LINE.findall(GTEST_END.split(text)[0]):
        verdict = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}.get(word.strip())
        # A case that began and never ended is where the program died.
        cases[name] = verdict or "failed"
    return cases


def tap_cases(text):
    cases = {}
    for number, (no, name) in enumerate(TAP_LINE.findall(text)):
        skipped = re.search(r"#\s*(SKIP|TODO)\b", name, re.IGNORECASE)
        verdict = "skipped" if skipped else "failed" if no else "passed"
        cases[f"{number + 1} {name}"] = verdict
    return cases


def cases_of(record):
    text = record.get("stdout", "")
    if "[==========]" in text or "[ RUN      ]" in text:
        cases = gtest_cases(text)
    elif re.search(r"^(TAP version|1\.\.\d+)", text, re.MULTILINE):
        cases = tap_cases(text)
    else:
        cases = {}
    result = record.get("result")
    good = result in ("OK", "EXPECTEDFAIL", "SKIP")
    if not good and "failed" not in cases.values():
        cases["the program as a whole"] = "failed"
    elif not cases:
        cases["the program"] = "skipped" if result == "SKIP" else "passed"
    return cases


def of_failed(text, bad):
    """Of GoogleTest's output what the failed cases printed; everything of other programs."""
    parts = [text[text.find(f"[ RUN      ] {name}\n"):] for name in bad if f"[ RUN      ] {name}\n" in text]
    if len(parts) < len(bad):
        return text
    return "".join(re.split(r"(?m)^\[ +(?:OK|FAILED) +\].*\n", part)[0] for part in parts)


def shortened(text):
    if len(text) <= MAX_OUTPUT:
        return text
    half = MAX_OUTPUT // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--also-failed", type=int, default=0, help="steps that failed before tests ran")
    parser.add_argument("directories", nargs="+")
    arguments = parser.parse_args()
    total = {"passed": 0, "failed": arguments.also_failed, "skipped": 0}
    failed_names = ["a step before the tests (see above)"] * arguments.also_failed
    for directory in arguments.directories:
        for path in sorted(glob.glob(os.path.join(directory, "run-*.json"))):
            run = os.path.basename(path)[len("run-"):-len(".json")]
            with open(path, encoding="utf-8", errors="replace") as lines:
                records = [json.loads(line) for line in lines]
            for record in records:
                cases = cases_of(record)
                for verdict in cases.values():
                    total[verdict] += 1
                bad = [name for name, verdict in cases.items() if verdict == "failed"]
                if not bad:
                    continue
                title = f"{record['name']} ({run})"
                print(f"\n==== {title}: {record.get('result')}, exit code {record.get('returncode')}")
                print(shortened(of_failed(record.get("stdout", ""), bad)))
                if record.get("stderr"):
                    print("---- standard error")
                    print(shortened(record["stderr"]))
                failed_names += [f"{title}: {name}" for name in bad]
    if failed_names:
        print("\nFailed:")
        for name in failed_names:
            print(f"  {name}")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 0 if total["passed"] and not total["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
