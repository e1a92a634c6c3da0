#!/usr/bin/python3
"""The schemas accept what the API says and refuse what it does not. Prints TAP.

  test_api_schema.py [OPENAPI-FILE]
"""

import copy
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api_schema  # noqa: E402

ID = "0123456789abcdef0123456789abcdef"
SESSION = f"/v1/apps/app/sessions/{ID}"
SDP = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n"
OFFER = {"type": "offer", "sdp": SDP}
ANSWER = {"type": "answer", "sdp": SDP}
NOT_FOUND = {"sessionId": ID, "trackName": "cam", "mid": "",
             "errorCode": "not_found_track_error", "errorDescription": "Track not found"}

GOOD = {
    "a session without a body": ("POST", "/v1/apps/app/sessions/new", 201, None, {"sessionId": ID}),
    "a session with an offer":
        ("POST", "/v1/apps/app/sessions/new?correlationId=x", 201, {"sessionDescription": OFFER},
         {"sessionId": ID, "sessionDescription": ANSWER}),
    "a push":
        ("POST", SESSION + "/tracks/new", 200,
         {"sessionDescription": OFFER,
          "tracks": [{"location": "local", "mid": "0", "trackName": "cam"}]},
         {"requiresImmediateRenegotiation": False, "sessionDescription": ANSWER,
          "tracks": [{"mid": "0", "trackName": "cam"}]}),
    "a push with discovery":
        ("POST", SESSION + "/tracks/new", 200, {"sessionDescription": OFFER, "autoDiscover": True},
         {"requiresImmediateRenegotiation": False, "sessionDescription": ANSWER,
          "tracks": [{"mid": "0", "trackName": "x1", "kind": "video"}]}),
    "a pull":
        ("POST", SESSION + "/tracks/new", 200,
         {"tracks": [{"location": "remote", "sessionId": ID, "trackName": "cam"}]},
         {"requiresImmediateRenegotiation": True, "sessionDescription": OFFER,
          "tracks": [{"mid": "0", "sessionId": ID, "trackName": "cam"}, NOT_FOUND]}),
    "a pull of nothing":
        ("POST", SESSION + "/tracks/new", 200,
         {"tracks": [{"location": "remote", "sessionId": ID, "trackName": "cam"}]},
         {"requiresImmediateRenegotiation": False, "tracks": [NOT_FOUND]}),
    "an answer": ("PUT", SESSION + "/renegotiate", 200, {"sessionDescription": ANSWER}, {}),
    "a layer change":
        ("PUT", SESSION + "/tracks/update", 200,
         {"tracks": [{"location": "remote", "mid": "0", "sessionId": ID, "trackName": "cam",
                      "simulcast": {"preferredRid": "h"}}]},
         {"requiresImmediateRenegotiation": False,
          "tracks": [{"mid": "0", "sessionId": ID, "trackName": "cam"}]}),
    "a forced close":
        ("PUT", SESSION + "/tracks/close", 200, {"tracks": [{"mid": "0"}], "force": True},
         {"requiresImmediateRenegotiation": False,
          "tracks": [{"mid": "0", "errorCode": "close_track_error", "errorDescription": "gone"}]}),
    "a negotiated close":
        ("PUT", SESSION + "/tracks/close", 200,
         {"tracks": [{"mid": "0"}], "force": False, "sessionDescription": OFFER},
         {"requiresImmediateRenegotiation": False, "sessionDescription": ANSWER,
          "tracks": [{"mid": "0"}]}),
    "a look":
        ("GET", SESSION, 200, None,
         {"tracks": [{"location": "local", "mid": "0", "trackName": "cam", "status": "active"}],
          "dataChannels": []}),
    "a session that is gone":
        ("GET", SESSION, 410, None, {"errorCode": "session_error", "errorDescription": "Gone"}),
    "TURN credentials":
        ("POST", "/v1/turn/keys/k/credentials/generate-ice-servers", 201, {"ttl": 86400},
         {"iceServers": [{"urls": ["stun:stun.example.org:3478"]},
                         {"urls": ["turn:turn.example.org:3478?transport=udp"],
                          "username": "u", "credential": "c"}]}),
}


def at(*path, value=None, remove=False):
    def change(record):
        node = record
        for key in path[:-1]:
            node = node[key]
        if remove:
            del node[path[-1]]
        else:
            node[path[-1]] = value
    return change


BAD = {
    "an empty object for a session": ("a session without a body", at("request", value={})),
    "a session without its id": ("a session without a body", at("response", value={})),
    "an answer where the SFU must offer":
        ("a pull", at("response", "sessionDescription", "type", value="answer")),
    "an offer where the SFU must answer":
        ("a push", at("response", "sessionDescription", "type", value="offer")),
    "an SDP without its last line end":
        ("a push", at("request", "sessionDescription", "sdp", value=SDP[:-2])),
    "an SDP with bare line feeds":
        ("a push", at("request", "sessionDescription", "sdp", value=SDP.replace("\r", ""))),
    "a local track without mid": ("a push", at("request", "tracks", 0, "mid", remove=True)),
    "a local track with an empty mid": ("a push", at("request", "tracks", 0, "mid", value="")),
    "a mixed batch":
        ("a push", at("request", "tracks", value=[
            {"location": "local", "mid": "0", "trackName": "cam"},
            {"location": "remote", "sessionId": ID, "trackName": "cam"}])),
    "65 tracks":
        ("a push", at("request", "tracks",
                      value=[{"location": "local", "mid": str(i), "trackName": f"t{i}"}
                             for i in range(65)])),
    "a remote track without its session":
        ("a pull", at("request", "tracks", 0, "sessionId", remove=True)),
    "a failed item with a mid": ("a pull", at("response", "tracks", 1, "mid", value="1")),
    "a failed item without description":
        ("a pull", at("response", "tracks", 1, "errorDescription", remove=True)),
    "renegotiation asked for without SDP":
        ("a pull of nothing", at("response", "requiresImmediateRenegotiation", value=True)),
    "an offer with renegotiation denied":
        ("a pull", at("response", "requiresImmediateRenegotiation", value=False)),
    "a flag that is a string":
        ("a push", at("response", "requiresImmediateRenegotiation", value="false")),
    "an offer to renegotiate":
        ("an answer", at("request", "sessionDescription", "type", value="offer")),
    "a close of nothing": ("a forced close", at("request", "tracks", value=[])),
    "a close that does not say how": ("a forced close", at("request", "force", remove=True)),
    "a forced close with SDP":
        ("a forced close", at("request", "sessionDescription", value=OFFER)),
    "a negotiated close without SDP":
        ("a negotiated close", at("request", "sessionDescription", remove=True)),
    "an unknown status": ("a look", at("response", "tracks", 0, "status", value="waiting")),
    "an error of another form":
        ("a session that is gone", at("response", value={"error": "gone"})),
    "a body that is not JSON": ("a look", at("response", value="{")),
    "a success that is none of the call's": ("a session without a body", at("status", value=200)),
    "a TTL beyond 48 hours": ("TURN credentials", at("request", "ttl", value=172801)),
}

# What the OpenAPI file refuses as well; it is laxer than the project's own schemas.
BAD_OFFICIAL = ("a session without its id", "a flag that is a string",
                "a close of nothing", "a close that does not say how", "an unknown status",
                "a success that is none of the call's")


def record_of(name):
    method, path, status, request, response = copy.deepcopy(GOOD[name])
    return {"method": method, "path": path, "status": status, "request": request,
            "response": response}


def main():
    results = []
    own = [api_schema.OwnSchemas()]
    for name in GOOD:
        problems, known = api_schema.check_all([record_of(name)], own)
        results.append((f"accepts {name}", not problems and known == 1, problems))
    for name, (base, change) in BAD.items():
        record = record_of(base)
        change(record)
        problems, _ = api_schema.check_all([record], own)
        results.append((f"refuses {name}", bool(problems), ["was accepted"]))
    if len(sys.argv) > 1 and sys.argv[1]:
        official = [api_schema.OpenApi(sys.argv[1])]
        for name in GOOD:
            problems, _ = api_schema.check_all([record_of(name)], official)
            results.append((f"the OpenAPI file accepts {name}", not problems, problems))
        for name in BAD_OFFICIAL:
            record = record_of(BAD[name][0])
            BAD[name][1](record)
            problems, _ = api_schema.check_all([record], official)
            results.append((f"the OpenAPI file refuses {name}", bool(problems), ["was accepted"]))
    print(f"1..{len(results)}")
    for number, (name, good, problems) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {number} - {name}")
        if not good:
            for problem in problems:
                print(f"# {problem}")
    return 0 if all(good for _, good, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
