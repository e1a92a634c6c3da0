#!/usr/bin/python3
"""Runs a test program and then holds every API call it recorded against the schemas.

  validate_requests.py [--openapi FILE] -- PROGRAM ARGUMENT...
  validate_requests.py [--openapi FILE] --log FILE...      of calls recorded before

The program leaves in the folder that CFREALTIME_REQUEST_LOG names what GET /debug/requests of the
local SFU gives, one file a test. The exit code is the program's, or 1 for a violation.
"""

import argparse
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api_schema  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--openapi", default="")
    parser.add_argument("--log", nargs="*", default=[])
    parser.add_argument("program", nargs="*")
    arguments = parser.parse_args()
    schemas = [api_schema.OwnSchemas()]
    if arguments.openapi:
        schemas.append(api_schema.OpenApi(arguments.openapi))

    logs = list(arguments.log)
    code = 0
    with tempfile.TemporaryDirectory() as directory:
        if arguments.program:
            environment = dict(os.environ, CFREALTIME_REQUEST_LOG=directory)
            code = subprocess.run(arguments.program, env=environment, check=False).returncode
            logs += [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
        known = 0
        problems = []
        for log in logs:
            with open(log, "rb") as file:
                records = api_schema.records_of(file.read())
            of_log, known_of_log = api_schema.check_all(records, schemas)
            known += known_of_log
            problems += [f"{os.path.basename(log)}: {problem}" for problem in of_log]
    for problem in problems[:100]:
        print(f"SCHEMA {problem}", file=sys.stderr)
    names = " and ".join(schema.name for schema in schemas)
    print(f"# {known} API calls held against {names}, {len(problems)} violations")
    if code < 0:
        os.kill(os.getpid(), -code)
    return code or (1 if problems else 0)


if __name__ == "__main__":
    sys.exit(main())
