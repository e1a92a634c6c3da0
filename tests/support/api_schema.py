"""Holds recorded API calls against JSON schemas: the project's own (tests/fixtures/schema) and, where
it is at hand, the service's OpenAPI 3.0 file."""

import json
import os
import re
import warnings

import jsonschema

with warnings.catch_warnings():
    # Deprecated in versions newer than Debian 12's, which has nothing else.
    warnings.simplefilter("ignore")
    from jsonschema import RefResolver

SCHEMA_DIR = os.path.join(os.path.dirname(__file__), "..", "fixtures", "schema")

# (method, path) -> schema file. Paths with or without the /v1 in front.
OWN_ROUTES = [
    ("POST", r"/apps/[^/]+/sessions/new", "sessions-new.json"),
    ("POST", r"/apps/[^/]+/sessions/[^/]+/tracks/new", "tracks-new.json"),
    ("PUT", r"/apps/[^/]+/sessions/[^/]+/renegotiate", "renegotiate.json"),
    ("PUT", r"/apps/[^/]+/sessions/[^/]+/tracks/update", "tracks-update.json"),
    ("PUT", r"/apps/[^/]+/sessions/[^/]+/tracks/close", "tracks-close.json"),
    ("GET", r"/apps/[^/]+/sessions/[^/]+", "session-get.json"),
    ("POST", r"/turn/keys/[^/]+/credentials/generate-ice-servers", "ice-servers.json"),
]

# What the local SFU replies where a test has asked it for garbage.
GARBAGE = "<html>not what you expect"

# A request that was refused as ill-formed is a test's doing; its reply is held to the schema still.
REFUSED_AS_ILL_FORMED = (400, 406, 413)


class Body:
    """A body as it was recorded: absent, JSON, or something that is not JSON."""

    def __init__(self, recorded):
        self.problem = None
        self.value = recorded
        if isinstance(recorded, str):
            if recorded in ("", GARBAGE):
                self.value = None
                return
            try:
                self.value = json.loads(recorded)
            except ValueError as error:
                self.problem = f"is not JSON: {error}"


class Call:
    def __init__(self, record):
        self.method = record["method"]
        self.path = re.sub(r"^/v1(?=/)", "", record["path"].split("?")[0])
        self.status = int(record["status"])
        # Closed without a reply, or garbage, because a test wanted it so.
        self.spoilt = self.status == 0 or record.get("response") == GARBAGE
        self.request = Body(record.get("request"))
        self.response = Body(record.get("response"))

    def __str__(self):
        return f"{self.method} {self.path} -> {self.status}"


def describe(error):
    best = jsonschema.exceptions.best_match([error]) or error
    where = "/".join(str(part) for part in best.absolute_path) or "(the whole)"
    return f"{where}: {best.message[:400]}"


class OwnSchemas:
    name = "own schema"

    def __init__(self, directory=SCHEMA_DIR):
        self.documents = {}
        for file_name in sorted(os.listdir(directory)):
            if file_name.endswith(".json"):
                with open(os.path.join(directory, file_name), encoding="utf-8") as file:
                    document = json.load(file)
                jsonschema.Draft202012Validator.check_schema(document)
                self.documents[file_name] = document

    def errors(self, file_name, part, value):
        document = self.documents[file_name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            resolver = RefResolver(file_name, document, store=self.documents)
            schema = {"$ref": f"{file_name}#/$defs/{part}"}
            validator = jsonschema.Draft202012Validator(schema, resolver=resolver)
            return [describe(error) for error in validator.iter_errors(value)]

    def knows(self, call):
        for method, pattern, file_name in OWN_ROUTES:
            if call.method == method and re.fullmatch(pattern, call.path):
                return file_name
        return None

    def check(self, call):
        file_name = self.knows(call)
        if not file_name:
            return None
        problems = []
        if call.status not in REFUSED_AS_ILL_FORMED:
            if call.request.problem:
                problems.append(f"request {call.request.problem}")
            else:
                problems += [f"request, {text}"
                             for text in self.errors(file_name, "request", call.request.value)]
        part = str(call.status) if call.status < 300 else "error"
        if call.spoilt:
            pass
        elif part not in self.documents[file_name]["$defs"]:
            problems.append(f"status {call.status} is none of this call's")
        elif call.response.problem:
            problems.append(f"reply {call.response.problem}")
        else:
            problems += [f"reply, {text}"
                         for text in self.errors(file_name, part, call.response.value)]
        return problems


class OpenApi:
    """The parts of OpenAPI 3.0 that differ from JSON schema draft 4 and occur in such files:
    nullable, and keywords that only document."""

    name = "OpenAPI"

    def __init__(self, path):
        import yaml

        with open(path, encoding="utf-8") as file:
            self.document = self.translate(yaml.safe_load(file))
        self.routes = []
        for template, item in self.document["paths"].items():
            pattern = "".join(r"[^/]+" if part.startswith("{") else re.escape(part)
                              for part in re.split(r"(\{[^}]*\})", template))
            for method, operation in item.items():
                if method in ("get", "put", "post", "delete", "patch"):
                    # A fixed path goes before one with a hole in the same place.
                    self.routes.append((template.count("{"), method.upper(), pattern, operation))
        self.routes.sort(key=lambda route: route[0])

    @classmethod
    def translate(cls, node):
        if isinstance(node, list):
            return [cls.translate(child) for child in node]
        if not isinstance(node, dict):
            return node
        result = {key: cls.translate(child) for key, child in node.items()}
        if result.get("nullable") is True and isinstance(result.get("type"), str):
            result["type"] = [result["type"], "null"]
            if "enum" in result and None not in result["enum"]:
                result["enum"] = result["enum"] + [None]
        return result

    def errors(self, schema, value):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            resolver = RefResolver("", self.document)
            validator = jsonschema.Draft4Validator(schema, resolver=resolver)
            return [describe(error) for error in validator.iter_errors(value)]

    def check(self, call):
        for _, method, pattern, operation in self.routes:
            if call.method == method and re.fullmatch(pattern, call.path):
                break
        else:
            return None
        problems = []
        schema = schema_of(operation.get("requestBody"))
        if not schema and call.path.endswith("/sessions/new") and call.method == "POST":
            # Defined there, though not wired to the path.
            if "NewSessionRequest" in self.document["components"]["schemas"]:
                schema = {"$ref": "#/components/schemas/NewSessionRequest"}
        needs_body = operation.get("requestBody", {}).get("required", False)
        if schema and call.status not in REFUSED_AS_ILL_FORMED and not call.request.problem:
            if call.request.value is not None:
                problems += [f"request, {text}" for text in self.errors(schema, call.request.value)]
            elif needs_body:
                problems.append("request: no body where one is required")
        reply = operation.get("responses", {}).get(str(call.status))
        if call.spoilt:
            pass
        elif reply is None:
            if call.status < 300:
                problems.append(f"status {call.status} is none of this call's")
        elif call.response.problem:
            problems.append(f"reply {call.response.problem}")
        else:
            schema = schema_of(reply)
            if schema:
                problems += [f"reply, {text}" for text in self.errors(schema, call.response.value)]
        return problems


def schema_of(holder):
    return (holder or {}).get("content", {}).get("application/json", {}).get("schema")


def records_of(source):
    """The calls in a file of JSON lines, a JSON document as GET /debug/requests gives it, or text."""
    if isinstance(source, bytes):
        source = source.decode("utf-8")
    source = source.strip()
    if not source:
        return []
    try:
        document = json.loads(source)
    except ValueError:
        return [json.loads(line) for line in source.splitlines() if line.strip()]
    if isinstance(document, dict):
        document = document.get("requests", [document])
    return document


def check_all(records, schemas):
    """Problems as text, and how many calls some schema knew."""
    known = 0
    problems = []
    for record in records:
        call = Call(record)
        results = [(schema.name, schema.check(call)) for schema in schemas]
        if any(result is not None for _, result in results):
            known += 1
        for name, result in results:
            for text in result or []:
                problems.append(f"{call}: {name}: {text}")
    return problems, known
