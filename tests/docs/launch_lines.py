#!/usr/bin/python3
"""Runs the launch lines of the docs (code blocks marked `sh launch`) as they stand, against a local
SFU, and looks whether media of each track really flows. Also checks that the pages name every
property, signal and pad property that the elements have. Prints TAP.

  launch_lines.py CFREALTIME-SFU DOCS-FOLDER
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

DEADLINE_S = 20 * float(os.environ.get("CFREALTIME_TIME_SCALE") or 1)
# What every bin has.
INHERITED = {"name", "parent", "async-handling", "message-forward", "pad-added", "pad-removed",
             "no-more-pads"}


class Failure(Exception):
    pass


class Program:
    """A process whose output goes to a file and can be waited for."""

    def __init__(self, words, directory, environment):
        self.path = os.path.join(directory, f"output-{time.monotonic_ns()}")
        self.output = open(self.path, "wb")
        self.process = subprocess.Popen(words, cwd=directory, env=environment,
                                        stdin=subprocess.DEVNULL, stdout=self.output,
                                        stderr=subprocess.STDOUT)

    def text(self):
        with open(self.path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def until(self, what, check):
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = check()
            if found:
                return found
            if self.process.poll() is not None:
                raise Failure(f"ended early, with {self.process.returncode}:\n{self.text()[-3000:]}")
            if time.monotonic() > deadline:
                raise Failure(f"{what}: not in time:\n{self.text()[-3000:]}")
            time.sleep(0.05)

    def stop(self, number=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failure(f"does not end when interrupted:\n{self.text()[-3000:]}") from None
            finally:
                self.output.close()


def lines_of(page):
    with open(page, encoding="utf-8") as file:
        blocks = re.findall(r"^```sh launch\n(.*?)^```", file.read(), re.MULTILINE | re.DOTALL)
    return [block.replace("\\\n", " ").strip() for block in blocks]


class Sfu:
    def __init__(self, program, directory):
        self.environment = dict(os.environ, CFREALTIME_APP_ID="docs",
                                CFREALTIME_APP_SECRET="not-much-of-a-secret")
        # No window and no loudspeaker. (Without a display some sinks crash when they are tried.)
        self.environment["GST_PLUGIN_FEATURE_RANK"] = "fakevideosink:MAX,fakeaudiosink:MAX"
        self.directory = directory
        self.program = Program([program, "--port", "0"], directory, self.environment)
        self.url = self.program.until("the SFU's address", lambda: re.search(
            r"http://127\.0\.0\.1:\d+", self.program.text())).group(0)
        self.environment["CFREALTIME_API_URL"] = self.url + "/v1"

    def launch(self, line, **variables):
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        return Program(shlex.split(line), self.directory, self.environment)

    def stats(self):
        with urllib.request.urlopen(self.url + "/debug/stats", timeout=10) as reply:
            return json.load(reply)

    def sessions(self):
        return {session["id"]: session for session in self.stats()["sessions"]}


def flowing(tracks, number):
    return len(tracks) >= number and all(track["packets"] > 20 for track in tracks)


def publish(sfu, line):
    before = set(sfu.sessions())
    number = line.count("src ")
    program = sfu.launch(line)

    def published():
        fresh = [session for key, session in sfu.sessions().items() if key not in before]
        return any(flowing(session["tracks"], number) for session in fresh)

    program.until("packets of every track at the SFU", published)
    return program


def play(sfu, line, session_id):
    before = set(sfu.sessions())
    program = sfu.launch(line, S=session_id)

    def played():
        fresh = [session for key, session in sfu.sessions().items() if key not in before]
        return any(flowing(session["pulls"], 1) for session in fresh)

    program.until("packets for the player", played)
    match = re.search(r"filesink location=(\S+)", line)
    if match:
        path = os.path.join(sfu.directory, match.group(1))
        program.until("a file that grows",
                      lambda: os.path.exists(path) and os.path.getsize(path) > 20000)
    return program


def run_line(sfu, line, session_id):
    program = play(sfu, line, session_id) if "cfrealtimesrc" in line else publish(sfu, line)
    program.stop()
    # GStreamer 1.22.0 looks through the sources of an RTP session while it adds one.
    text = re.sub(r".*CRITICAL.*g_hash_table_foreach: assertion 'version == .*", "", program.text())
    if re.search(r"^ERROR|CRITICAL|erroneous pipeline", text, re.MULTILINE):
        raise Failure(f"printed an error:\n{program.text()[-3000:]}")


# Publisher and player, who find each other by a stream document.
def run_pair(sfu, pair):
    publish_line, play_line = pair.replace("http://127.0.0.1:8080", sfu.url).splitlines()
    publisher = publish(sfu, publish_line)
    try:
        run_line(sfu, play_line, "")
    finally:
        publisher.stop()


def inspected(element):
    text = subprocess.run(["gst-inspect-1.0", "--no-colors", element], check=True,
                          capture_output=True, text=True).stdout
    properties = re.search(r"^Element Properties:\n(.*?)(^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"^  ([a-z0-9-]+)\s+: ", properties.group(1), re.MULTILINE))
    signals = re.search(r"^Element Signals:\n(.*)", text, re.MULTILINE | re.DOTALL)
    names |= set(re.findall(r'^  "([a-z0-9-]+)"', signals.group(1), re.MULTILINE) if signals else [])
    return names - INHERITED


def check_page(element, folder):
    text = ""
    for page in (f"{element}.md", "connection.md"):
        with open(os.path.join(folder, "elements", page), encoding="utf-8") as file:
            text += file.read()
    missing = sorted(name for name in inspected(element) if f"`{name}`" not in text)
    if missing:
        raise Failure("not on the page: " + ", ".join(missing))


def main():
    program, folder = (os.path.abspath(path) for path in sys.argv[1:3])
    tests = []
    for element in ("cfrealtimesink", "cfrealtimesrc"):
        tests.append((f"the page of {element} names all that gst-inspect does", element, None))
        for line in lines_of(os.path.join(folder, "elements", f"{element}.md")):
            tests.append((line.replace("#", ""), element, line))
    for pair in lines_of(os.path.join(folder, "stream-url.md")):
        tests.append(("the pair of lines in stream-url.md", None, pair))
    print(f"1..{len(tests)}", flush=True)
    bad = 0
    with tempfile.TemporaryDirectory() as directory:
        sfu = Sfu(program, directory)
        publisher = None
        session_id = ""
        try:
            for number, (name, element, line) in enumerate(tests, 1):
                try:
                    if line is None:
                        check_page(element, folder)
                    elif element is None:
                        run_pair(sfu, line)
                    else:
                        if element == "cfrealtimesrc" and not publisher:
                            publisher = publish(sfu, "gst-launch-1.0 -v cfrealtimesink name=s "
                                                "videotestsrc is-live=true ! s. "
                                                "audiotestsrc is-live=true ! s.")
                            session_id = re.search(r'session-id = "?([0-9a-f]{32})',
                                                   publisher.text()).group(1)
                        run_line(sfu, line, session_id)
                    print(f"ok {number} - {name}", flush=True)
                except Failure as failure:
                    bad += 1
                    print(f"not ok {number} - {name}")
                    print("\n".join("# " + part for part in str(failure).splitlines()), flush=True)
        finally:
            for running in (publisher, sfu.program):
                if running:
                    try:
                        running.stop(signal.SIGTERM if running is sfu.program else signal.SIGINT)
                    except Failure as failure:
                        print(f"# {failure}")
                        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
