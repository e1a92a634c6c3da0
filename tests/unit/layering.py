#!/usr/bin/python3
"""Who may include whom: holds every #include of the sources to the table in docs/architecture.md.
Prints TAP.

  layering.py SOURCE-ROOT
"""

import os
import re
import sys

GLIB = ("glib", "gio/", "glib-object")
GSTREAMER = ("gst/",)

# folder: (project headers it may include, libraries it may include). A file named alone has its own
# row. The standard library is open to all.
TABLE = {
    "util": (("util/",), GLIB + ("gst/gst.h",)),
    "wire": (("wire/", "util/"), ()),
    "wire/json": (("wire/", "util/"), GLIB + ("json-glib/",)),
    "negotiation": (("negotiation/", "wire/types.h", "wire/codes.h", "util/error.h", "util/result.h"),
                    ()),
    "api": (("api/", "wire/", "util/"), GLIB),
    "api/soup_http": (("api/", "wire/", "util/"), GLIB + ("libsoup/",)),
    "rtc": (("rtc/", "util/"), GLIB + GSTREAMER),
    "bandwidth": (("bandwidth/", "util/"), GLIB + GSTREAMER),
    "media": (("media/", "bandwidth/", "util/"), GLIB + GSTREAMER),
    "session": (("session/", "negotiation/", "api/", "rtc/", "wire/", "util/"), GLIB + GSTREAMER),
    "sfu": (("sfu/", "wire/", "util/"),
            GLIB + GSTREAMER + ("libsoup/", "nice/", "json-glib/", "agent.h", "sys/", "unistd.h")),
    "gst": (("gstcfrealtime", "session/", "media/", "bandwidth/", "api/", "rtc/", "wire/types.h",
             "util/"), GLIB + GSTREAMER),
}

# These have no I/O, threads, clock or logging, so nothing but the standard library and their like.
PURE = ("negotiation/", "wire/types", "rtc/sdp", "rtc/rtp_header", "sfu/state", "sfu/sdp",
        "sfu/forwarder", "sfu/packet", "sfu/media_section", "bandwidth/estimator")
IMPURE = re.compile(r"<(thread|mutex|chrono|iostream|fstream|atomic|condition_variable|random|ctime)>"
                    r"|<(gio|gst|libsoup|nice)\b|<(unistd|sys/|netinet/|time)")
# Nor is what of these libraries only reads text and packets.
IMPURE_BUT = re.compile(r"<gst/(sdp|rtp)/")
EXCUSED = {("rtc/sdp_rules.cpp", "gio/gio.h")}  # tells an address from a name


def row_of(path):
    folder = path.split("/")[0]
    stem = os.path.splitext(path)[0]
    named = [name for name in TABLE if "/" in name and (stem == name or stem.startswith(name + "_"))]
    return named[0] if named else folder


def violations(root):
    seen = {}
    for base, top in (("src", ""), ("gst", "gst/")):
        for folder, _, files in os.walk(os.path.join(root, base)):
            for name in sorted(files):
                if not name.endswith((".h", ".cpp")):
                    continue
                full = os.path.join(folder, name)
                path = top + os.path.relpath(full, os.path.join(root, base))
                row = row_of(path)
                problems = seen.setdefault(path.split("/")[0], [])
                if row not in TABLE:
                    problems.append(f"{path}: the folder is not in the table")
                    continue
                own, libraries = TABLE[row]
                pure = path.startswith(PURE)
                with open(full, encoding="utf-8") as file:
                    text = file.read()
                for bracket, included in re.findall(r'^\s*#\s*include\s*(["<])([^">]+)[">]', text,
                                                    re.MULTILINE):
                    if bracket == '"':
                        good = included.startswith(own) or \
                            os.path.exists(os.path.join(folder, included)) and "/" not in included
                    else:
                        system = "/" in included or included.endswith(".h")
                        good = not system or included.startswith(libraries) or \
                            re.match(r"(sys|netinet|arpa)/|(unistd|inttypes|pthread|dlfcn|poll)\.h", included) \
                            and not pure
                    if not good:
                        problems.append(f"{path} includes {included}")
                    elif pure and bracket == "<" and IMPURE.match(f"<{included}>") \
                            and not IMPURE_BUT.match(f"<{included}>") \
                            and (path, included) not in EXCUSED:
                        problems.append(f"{path} is to be pure and includes {included}")
    return seen


def main():
    seen = violations(sys.argv[1])
    print(f"1..{len(seen)}")
    for number, (folder, problems) in enumerate(sorted(seen.items()), 1):
        print(f"{'not ok' if problems else 'ok'} {number} - {folder} includes only what is below it")
        for problem in problems:
            print(f"# {problem}")
    return 1 if any(seen.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
