"""A server that answers as Cerebras' does, or misbehaves, as the name of the asked model says. It
listens on loopback only.

    with FakeCerebras() as server:          # or FakeCerebras(tls=(certificate, key))
        server.address                      # "http://127.0.0.1:PORT"
        server.requests                     # what was asked: (time, path, headers, body)

    fake_cerebras.py [--port N]             # stays until Ctrl-C, for a try by hand
"""

import base64
import json
import socket
import ssl
import threading
import time
import urllib.parse

ID = "chatcmpl-2f1c7c6e-8a52-4a0e-9d0c-54a0f1d5c1f3"
COMMON = (
    f'"id":"{ID}",%s"created":1761231230,"model":"qwen-3-coder-480b",'
    '"system_fingerprint":"fp_386b539e7b02ce3613b7"'
)
USAGE = (
    '"usage":{"total_tokens":31,"completion_tokens":11,"prompt_tokens":20,'
    '"prompt_tokens_details":{"cached_tokens":4},'
    '"completion_tokens_details":{"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
)
TIMES = (
    '"time_info":{"queue_time":0.0001114,"prompt_time":0.00203661,"completion_time":0.00354778,'
    '"total_time":0.006747245788574219,"created":1761231230.5353851}'
)
TEXT = "Oi! Tudo bem? \u00e9 \u4f60\u597d \U0001f600\n"
PIECES = ["Oi", "! Tudo", " bem", "? \u00e9 \u4f60", "\u597d \U0001f600", "\n"]

BODY = (
    "{" + COMMON % '"choices":[{"finish_reason":"stop","index":0,"message":{"content":%s,'
    '"role":"assistant"}}],' % json.dumps(TEXT, ensure_ascii=False).replace("%", "%%")
    + ',"object":"chat.completion",' + USAGE + "," + TIMES + "}"
)  # fmt: skip


def chunk(delta, finish=None, more=""):
    """One event's data, fields in the order and the compactness that were recorded."""
    delta = json.dumps(delta, separators=(",", ":"), ensure_ascii=False)
    reason = f',"finish_reason":"{finish}"' if finish else ""
    choices = f'"choices":[{{"delta":{delta}{reason},"index":0}}],'
    return "{" + COMMON % choices.replace("%", "%%") + ',"object":"chat.completion.chunk"' + more + "}"


FINISH = chunk({}, "stop", f",{USAGE},{TIMES}")
EVENTS = [
    chunk({"role": "assistant"}),
    *[chunk({"content": piece}) for piece in PIECES[:3]],
    chunk({}),
    *[chunk({"content": piece}) for piece in PIECES[3:]],
    FINISH,
]


def stream(events, end="\n\n", comment=""):
    return "".join(f"{comment}data: {event}{end}" for event in events).encode()


STREAM = stream(EVENTS)


def error(message, kind, param, code):
    return json.dumps({"message": message, "type": kind, "param": param, "code": code})


#: Of each refusal: status, headers, body.
REFUSALS = {
    "e401": (401, {}, error("Wrong API Key", "invalid_request_error", "api_key", "wrong_api_key")),
    "e402": (402, {}, error("Payment required", "payment_error", "quota", "payment_required")),
    "e403": (403, {}, '{"detail":"Not authenticated"}'),
    "e404-path": (404, {"Content-Type": "text/plain"}, ""),
    "e404": (404, {}, error(
        "Model e404 does not exist or you do not have access to it.", "not_found_error", "model",
        "model_not_found")),
    "e400-context": (400, {}, json.dumps({
        "message": "Please reduce the length of the messages or completion. Current length is 8677"
        " while limit is 8192", "type": "invalid_request_error", "param": "messages",
        "code": "context_length_exceeded", "id": ""})),
    "e400-format": (400, {}, error(
        "body.messages.0: property 'reasoning_content' is unsupported", "invalid_request_error",
        "validation_error", "wrong_api_format")),
    "e408": (408, {}, error("Request timed out", "timeout_error", "", "request_timeout")),
    "e409": (409, {}, error("Conflict", "conflict_error", "", "conflict")),
    "e422": (422, {}, json.dumps({"detail": [
        {"loc": ["body", "seed"], "msg": "value is not a valid integer", "type": "type_error"},
        {"loc": ["body", "n"], "msg": "field required", "type": "missing"}]})),
    "e429-tokens": (429, {"Retry-After": "0.05"}, error(
        "Tokens per minute limit exceeded - too many tokens processed.", "too_many_tokens_error",
        "quota", "token_quota_exceeded")),
    "e429-requests": (429, {"retry-after-ms": "40", "Retry-After": "9"}, error(
        "Requests per minute limit exceeded - too many requests sent.", "too_many_requests_error",
        "quota", "request_quota_exceeded")),
    "e429-queue": (429, {"retry-after-ms": "10"}, error(
        "We're experiencing high traffic right now! Please try again soon.",
        "too_many_requests_error", "queue", "queue_exceeded")),
    "e429-stay-away": (429, {"x-should-retry": "false", "retry-after-ms": "10"}, error(
        "Not today", "too_many_requests_error", "quota", "token_quota_exceeded")),
    "e429-hour": (429, {"Retry-After": "3600"}, error(
        "Tokens per hour", "too_many_tokens_error", "quota", "token_quota_exceeded")),
    "e400-again": (400, {"x-should-retry": "true", "retry-after-ms": "10"}, error(
        "Odd", "invalid_request_error", "", "odd")),
    "e500": (500, {"retry-after-ms": "10"}, '{"error":{"message":"Internal","type":"server_error"}}'),
    "e503": (503, {}, "<html>upstream is down</html>"),
    "e503-string": (503, {"retry-after-ms": "10"}, '{"error":"overloaded"}'),
    "e302": (302, {"Location": "http://127.0.0.1:1/"}, ""),
}  # fmt: skip

REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


class Connection:
    """One accepted connection, while it is answered."""

    def __init__(self, server, raw):
        self.server = server
        self.raw = raw

    def read_request(self):
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.raw.recv(65536)
            if more[:1] == b"\x16":  # somebody who speaks TLS
                self.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            if not more or more[:1] == b"\x16":
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        while len(body) < int(headers.get("content-length", 0)):
            more = self.raw.recv(65536)
            if not more:
                return None
            body += more
        return method, path, headers, body

    def send(self, data):
        self.raw.sendall(data)

    def head(self, status=200, headers=(), kind="application/json"):
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", "Connection: close"]
        headers = dict(headers)
        headers.setdefault("Content-Type", kind)
        headers.setdefault("x-request-id", "req-0123")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n")

    def whole(self, body, status=200, headers=(), kind="application/json"):
        body = body.encode() if isinstance(body, str) else body
        self.head(status, {"Content-Length": len(body), **dict(headers)}, kind)
        self.send(body)

    def events(self, data, headers=(), pause=0):
        """A stream that ends with the connection."""
        self.head(200, headers, "text/event-stream; charset=utf-8")
        for part in data if isinstance(data, list) else [data]:
            self.send(part)
            time.sleep(pause)

    def chunked(self, parts, last=True):
        self.head(200, {"Transfer-Encoding": "chunked"}, "text/event-stream; charset=utf-8")
        for part in parts:
            self.send(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        if last:
            self.send(b"0\r\n\r\n")

    def until_gone(self, data, pause=0.0):
        while not self.server.closing:
            self.send(data)
            time.sleep(pause)

    # ------------------------------------------------------------------ by the model's name

    def answer(self, model, tries, body, key):
        if model in REFUSALS:
            status, headers, text = REFUSALS[model]
            return self.whole(text, status, headers, headers.get("Content-Type", "application/json"))
        name = "do_" + model.replace("-", "_")
        return getattr(self, name)(tries, body, key)

    def do_good(self, tries, body, key):
        limits = {"x-ratelimit-limit-requests-day": "14400", "x-ratelimit-reset-tokens-minute": "0.53"}
        if json.loads(body).get("stream"):
            self.events(STREAM, limits)
        else:
            self.whole(BODY, 200, limits)

    def do_chunked(self, tries, body, key):
        self.chunked([STREAM[i : i + 7] for i in range(0, len(STREAM), 7)])

    def do_bytes(self, tries, body, key):
        self.events([STREAM[i : i + 1] for i in range(len(STREAM))])

    def do_done(self, tries, body, key):
        self.events(stream([*EVENTS, "[DONE]"]))

    def do_done_and_on(self, tries, body, key):
        self.events(stream([*EVENTS, "[DONE]"]))
        self.until_gone(b": still here\n\n", 0.01)

    def do_crlf(self, tries, body, key):
        self.events(b"\xef\xbb\xbf" + stream(EVENTS, "\r\n\r\n", ": ping\r\nevent: message\r\n"))

    def do_cr(self, tries, body, key):
        self.events(stream(EVENTS, "\r\r", ":\r"))

    def do_heartbeats(self, tries, body, key):
        beats = [": ping\n\n", "data:\n\n", "event: ping\ndata: ping\n\n", "\n\n", "data: \n\n",
                 'event: ping\ndata: {"type": "ping"}\n\n']  # fmt: skip
        parts = [stream([event]).replace(b"data: ", b"data:") for event in EVENTS]
        self.events([beats[i % len(beats)].encode() + part for i, part in enumerate(parts)])

    def do_no_type(self, tries, body, key):
        self.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + STREAM)

    def do_no_last_line(self, tries, body, key):
        self.events(STREAM[:-2])

    def do_created_int(self, tries, body, key):
        self.whole(BODY.replace("1761231230.5353851", "1761231230"))

    def do_more_fields(self, tries, body, key):
        more = {"service_tier": "default", "metadata": {"a": [1, None]}, **json.loads(BODY)}
        more["choices"][0]["logprobs"] = None
        more["usage"]["new"] = 1.5
        self.whole(json.dumps(more))

    def do_usage_after(self, tries, body, key):
        usage = json.dumps({"choices": [], **json.loads("{" + USAGE + "," + TIMES + "}")})
        self.events(stream([*EVENTS[:-1], chunk({}, "length"), usage, "[DONE]"]))

    def do_reasoning(self, tries, body, key):
        first = [chunk({"reasoning": "Let me "}), chunk({"reasoning": "think."})]
        self.events(stream([*first, *EVENTS]))

    def do_tools(self, tries, body, key):
        call = {"function": {"name": "f", "arguments": "{}"}, "type": "function", "id": "1", "index": 0}
        self.events(stream([chunk({"tool_calls": [call]}), chunk({}, "tool_calls")]))

    def do_json_for_stream(self, tries, body, key):
        self.whole(BODY)

    def do_later(self, tries, body, key):
        if tries < 3:
            return self.whole(*reversed(REFUSALS["e503"][::2]), {"retry-after-ms": str(30 * tries)})
        return self.do_good(tries, body, key)

    def do_drops_once(self, tries, body, key):
        if tries > 1:
            self.do_good(tries, body, key)

    def do_nothing(self, tries, body, key):
        self.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    # ------------------------------------------------------------------ that break off

    def do_closes(self, tries, body, key):
        pass

    def do_half_head(self, tries, body, key):
        self.send(b"HTTP/1.1 200 OK\r\nContent-Ty")

    def do_half_body(self, tries, body, key):
        self.head(200, {"Content-Length": len(BODY.encode())})
        self.send(BODY.encode()[:100])

    def do_half_stream(self, tries, body, key):
        self.events(stream(EVENTS[:4]) + b'data: {"id"')

    def do_half_chunked(self, tries, body, key):
        self.chunked([stream(EVENTS[:4])], last=False)

    def do_ends_early(self, tries, body, key):
        self.events(stream(EVENTS[:4]))

    def do_error_first(self, tries, body, key):
        self.events(stream(['{"error":{"message":"Queue is full","type":"too_many_requests_error",'
                            '"param":"queue","code":"queue_exceeded","id":""},"status_code":429}']))  # fmt: skip

    def do_named_error(self, tries, body, key):
        self.events(b"event: error\ndata: overloaded\n\n")

    def do_error_in_stream(self, tries, body, key):
        self.events(stream([*EVENTS[:4], '{"error":{"message":"Encountered a server error",'
                            '"type":"server_error","param":"","code":"internal","id":""},'
                            '"status_code":500}']))  # fmt: skip

    # ------------------------------------------------------------------ that are something else

    def do_html(self, tries, body, key):
        self.whole("<html>Welcome to the hotel</html>", kind="text/html")

    def do_no_json(self, tries, body, key):
        self.whole("Hello")

    def do_no_json_in_stream(self, tries, body, key):
        self.events(stream([*EVENTS[:3], "Hello"]))

    def do_list(self, tries, body, key):
        self.whole("[1]")

    def do_no_choices(self, tries, body, key):
        self.whole('{"id":"x","choices":[]}')

    def do_wrong_types(self, tries, body, key):
        self.whole(BODY.replace('"prompt_tokens":20', '"prompt_tokens":"many"'))

    def do_negative(self, tries, body, key):
        self.whole(BODY.replace('"completion_tokens":11', '"completion_tokens":-3'))

    def do_deep(self, tries, body, key):
        self.whole("[" * 100_000)

    def do_not_utf8(self, tries, body, key):
        self.events(STREAM.replace(b"Oi", b"O\xff"))

    def do_gzip(self, tries, body, key):
        self.whole(BODY, 200, {"Content-Encoding": "gzip"})

    def do_controls(self, tries, body, key):
        self.whole(error("bad\u001b[31m\r\nline", "x", "y", "z\u0007"), 400)

    def do_no_http(self, tries, body, key):
        self.send(b"220 smtp.example ready\r\n" * 3)

    # ------------------------------------------------------------------ too much, or nothing

    def do_stalls(self, tries, body, key):
        self.events(stream(EVENTS[:4]))
        self.server.wait()

    def do_stalls_at_once(self, tries, body, key):
        self.server.wait()

    def do_endless_text(self, tries, body, key):
        self.events(b"")
        self.until_gone(stream([chunk({"content": "x" * 1000})]) * 20)

    def do_endless_comments(self, tries, body, key):
        self.events(stream(EVENTS[:2]))
        self.until_gone(b": ping\n\n", 0.01)

    def do_endless_event(self, tries, body, key):
        self.events(b"data: ")
        self.until_gone(b"x" * 65536)

    def do_endless_line(self, tries, body, key):
        self.head()
        self.until_gone(b"x" * 65536)

    def do_endless_headers(self, tries, body, key):
        self.send(b"HTTP/1.1 200 OK\r\n")
        self.until_gone(b"x-more: " + b"y" * 100 + b"\r\n")

    def do_long_status_line(self, tries, body, key):
        self.send(b"HTTP/1.1 200 " + b"O" * 100_000 + b"K\r\n\r\n{}")

    def do_done_and_stalls(self, tries, body, key):
        self.events(STREAM)
        self.server.wait()

    def do_done_and_half(self, tries, body, key):
        self.chunked([STREAM, b'data: {"choices":['], last=False)

    def do_half_refusal(self, tries, body, key):
        self.head(403, {"Content-Length": 1000, "Content-Encoding": "br"})
        self.send(b"You shall not pass")

    def do_bad_chunk(self, tries, body, key):
        self.head(200, {"Transfer-Encoding": "chunked"}, "text/event-stream")
        self.send(b"%x\r\n" % len(STREAM[:400]) + STREAM[:400] + b"garbage\r\n")

    def do_endless_error(self, tries, body, key):
        self.head(500, {"x-should-retry": "false"}, "text/plain")
        self.until_gone(b"sorry " * 10_000)

    def do_said_to_be_huge(self, tries, body, key):
        self.head(200, {"Content-Length": 10**15})
        self.send(b"{")
        self.server.wait()

    # ------------------------------------------------------------------ that echo the key

    def do_echo_error(self, tries, body, key):
        self.whole(error(f"Wrong key: {forms(key)}", key, key, key), 401, {"x-request-id": key})

    def do_echo_text(self, tries, body, key):
        more = chunk({"content": f"You said {forms(key)}", "reasoning": key})
        headers = {"x-request-id": key[2:12], "x-ratelimit-" + key: key}
        self.events(stream([more, FINISH.replace('"stop"', json.dumps(key))]), headers)

    def do_echo_html(self, tries, body, key):
        self.whole(f"<html>{forms(key)}</html>", 500, {"x-should-retry": "false"}, "text/html")

    def do_echo_in_stream(self, tries, body, key):
        self.events(stream([json.dumps({"error": {"message": forms(key), "code": key}})]))


def forms(key):
    """The key and its pieces, as they might come back."""
    encoded = [base64.b64encode(b"x" * i + key.encode()).decode() for i in range(3)]
    return " ".join([
        key, key[3:10], key[-6:], key.encode().hex(), key.encode().hex().upper(), key[4:11].encode().hex(),
        *encoded, *[e.replace("+", "-").replace("/", "_") for e in encoded],
        base64.b64encode(key[5:11].encode()).decode(), urllib.parse.quote(key, safe=""),
        "".join(f"%{c:02x}" for c in key.encode()),
    ])  # fmt: skip


class FakeCerebras:
    def __init__(self, tls=None, port=0):
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.requests = []
        self.lock = threading.Lock()
        self.closed = threading.Event()

    @property
    def closing(self):
        return self.closed.is_set()

    def wait(self):
        self.closed.wait()

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closed.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(raw,), daemon=True).start()

    def serve(self, raw):
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context:
                raw = self.context.wrap_socket(raw, server_side=True)
            with raw:
                self.respond(Connection(self, raw))
        except OSError:  # the client is gone, or does not like the certificate
            pass

    def respond(self, connection):
        request = connection.read_request()
        if not request:
            return
        method, path, headers, body = request
        model = json.loads(body)["model"] if body else ""
        with self.lock:
            self.requests.append((time.monotonic(), path, headers, body))
            tries = sum(1 for r in self.requests if r[3] and json.loads(r[3])["model"] == model)
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if path == "/v1/models":
            entries = [{"id": n, "object": "model", "created": 0} for n in ("gpt-oss-120b", "good")]
            connection.whole(json.dumps({"object": "list", "data": entries}))
        elif path == "/v1/chat/completions" and method == "POST":
            connection.answer(model, tries, body, key)
        else:
            connection.whole(b"", 404, kind="text/plain")


def main():
    import argparse

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    with FakeCerebras(port=parser.parse_args().port) as server:
        print(f"CEREBRAS_BASE_URL={server.address}", flush=True)
        server.wait()


if __name__ == "__main__":
    main()
