#!/usr/bin/env python3
"""The client of a hosted model against a server that answers as it should, refuses in every way that
is known, and misbehaves.

    remote_test.py --probe REMOTE-PROBE [--kernelforge PATH] [unittest options]
"""

import argparse
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fake_cerebras import REFUSALS, TEXT, FakeCerebras, forms

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
from product import find_model  # noqa: E402

KEY = "csk-7hX2m+Q9v/Kd4wTz~8bNp6rLs3y=="


def variables(server, **more):
    """The environment of a client of `server`."""
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("CEREBRAS_", "SSL_CERT"))}
    return {**clean, "CEREBRAS_API_KEY": KEY, "CEREBRAS_BASE_URL": server.address, **more}


def certificate(folder, name):
    """A certificate of its own authority, for `name`: "IP:127.0.0.1"; (certificate, key)."""
    pair = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={name}",
        "-out", pair[0], "-keyout", pair[1],
    ]  # fmt: skip
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return pair


def leaks(text):
    """Pieces of the key in a text, in any of the ways a server might have sent it back."""
    lower, key = text.lower(), KEY.lower()
    found = [key[i : i + 6] for i in range(len(key) - 5) if key[i : i + 6] in lower]
    codes = [KEY.encode()[i : i + 6].hex() for i in range(len(KEY) - 5)]
    found += [c for c in codes if c in lower]
    found += ["%" + "%".join(re.findall("..", c)) for c in codes
              if "%" + "%".join(re.findall("..", c)) in lower]  # fmt: skip
    for form in forms(KEY).split():
        found += [form[i : i + 8] for i in range(len(form) - 7)
                  if form[i : i + 8] in text and "%" not in form[i : i + 8]]  # fmt: skip
    return found


class RemoteTest(unittest.TestCase):
    probe = None
    kernelforge = None

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="kernelforge-remote-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)

        pair = certificate(cls.folder, "IP:127.0.0.1")
        cls.trust = {"SSL_CERT_FILE": str(pair[0])}
        cls.secure = cls.enterClassContext(FakeCerebras(tls=pair))

    def setUp(self):
        self.server = self.enterContext(FakeCerebras())

    def ask(self, model, environment=None, **how):
        """The probe's answer, and that it gave nothing of the key away."""
        line = json.dumps({"model": model, **how})
        done = subprocess.run([self.probe], input=line + "\n", capture_output=True, text=True,
                              env=environment or variables(self.server), timeout=60)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(leaks(done.stdout + done.stderr), [])
        return json.loads(done.stdout)

    def good(self, model, **how):
        answer = self.ask(model, **how)
        self.assertIsNone(answer["error"], answer)
        return answer

    def bad(self, model, says, **how):
        """The answer must be an error of kind 4 whose line holds `says`."""
        answer = self.ask(model, **how)
        self.assertIsNotNone(answer["error"], answer)
        self.assertEqual(answer["error"]["code"], 4, answer)
        self.assertRegex(answer["line"], says)
        self.assertNotRegex(answer["line"], r"[\x00-\x1f\x7f]")
        return answer


class Answers(RemoteTest):
    def test_whole_and_streamed(self):
        for stream in (False, True):
            with self.subTest(stream=stream):
                a = self.good("good", stream=stream)
                self.assertEqual(a["text"], TEXT)
                self.assertEqual((a["finish"], a["model"]), ("stop", "qwen-3-coder-480b"))
                self.assertEqual((a["prompt_tokens"], a["completion_tokens"]), (20, 11))
                self.assertEqual(a["cached_tokens"], 4)
                self.assertAlmostEqual(a["server_s"], 0.006747245788574219)
                self.assertEqual(a["rate_limits"]["limit-requests-day"], "14400")
                self.assertEqual(a["request_id"], "req-0123")
                self.assertEqual((a["tries"], a["waited_s"]), (1, 0))
                self.assertEqual(a["first_s"] is None, not stream)
                self.assertGreater(a["total_s"], 0)

    def test_what_is_sent(self):
        self.good("good")
        _, path, headers, body = self.server.requests[-1]
        self.assertEqual(path, "/v1/chat/completions")
        self.assertEqual(headers["authorization"], f"Bearer {KEY}")
        self.assertEqual(headers["accept-encoding"], "identity")
        self.assertEqual(headers["content-type"], "application/json")
        self.assertEqual(
            json.loads(body),
            {
                "model": "good",
                "messages": [{"role": "user", "content": "Hello"}],
                "max_completion_tokens": 128,
                "temperature": 0,
                "top_p": 0.9,
                "seed": 7,
                "stop": ["END"],
                "stream": True,
                "stream_options": {"include_usage": True},
            },
        )

    def test_streams_of_every_form(self):
        for model in ("chunked", "bytes", "done", "done-and-on", "crlf", "cr", "no-last-line",
                      "json-for-stream", "heartbeats", "no-type"):  # fmt: skip
            with self.subTest(model):
                a = self.good(model, total_s=20)
                self.assertEqual((a["text"], a["finish"]), (TEXT, "stop"))
                self.assertEqual((a["completion_tokens"], a["prompt_tokens"]), (11, 20))
                self.assertLess(a["seconds"], 5)

    def test_answers_with_more_or_less(self):
        for model in ("created-int", "more-fields"):
            self.assertEqual(self.good(model, stream=False)["text"], TEXT)
        a = self.good("usage-after")
        self.assertEqual((a["text"], a["finish"], a["completion_tokens"]), (TEXT, "length", 11))
        a = self.good("reasoning")
        self.assertEqual((a["text"], a["reasoning"]), (TEXT, "Let me think."))
        a = self.good("tools")
        self.assertEqual((a["text"], a["finish"], a["tool_calls"]), ("", "tool_calls", 1))

    def test_models(self):
        self.assertEqual(self.ask("", list=True)["models"], ["gpt-oss-120b", "good"])


class Refusals(RemoteTest):
    def test_each_is_one_line_with_the_servers_words(self):
        says = {
            "e401": "401 not authorised: Wrong API Key .wrong_api_key.; check the key",
            "e402": "402 payment required: Payment required .payment_required.",
            "e403": "403 forbidden: Not authenticated; check the key",
            "e404-path": "404 not found; check the address",
            "e404": "Model e404 does not exist .* .model_not_found.; the account has gpt-oss-120b, good",
            "e400-context": "400 bad request: Please reduce .* 8677 while limit is 8192 .context_length",
            "e400-format": "property 'reasoning_content' is unsupported .wrong_api_format.",
            "e408": "408 request timed out: Request timed out",
            "e409": "409 conflict",
            "e422": "422 .*: value is not a valid integer; field required",
            "e429-tokens": "429 too many requests: Tokens per minute limit exceeded",
            "e429-requests": "Requests per minute limit exceeded .* .request_quota_exceeded.",
            "e429-queue": "high traffic .* .queue_exceeded.",
            "e429-stay-away": "Not today",
            "e429-hour": "the server asks to wait for 3600 s",
            "e400-again": "Odd",
            "e500": "500 error of the server: Internal .server_error.",
            "e503": "503 not available: <html>upstream is down</html>",
            "e503-string": "overloaded",
            "e302": "302 sent elsewhere, which is not followed",
        }
        self.assertEqual(set(says), set(REFUSALS))
        for model, words in says.items():
            for stream, server in ((True, self.server), (False, self.secure)):
                with self.subTest(model, stream=stream):
                    a = self.bad(model, words, stream=stream, retries=int(model == "e429-hour"),
                                 environment=variables(server, **self.trust))  # fmt: skip
                    self.assertIn(f"server refused the request ({server.address}", a["line"])
                    self.assertIn("request req-0123", a["line"])
                    self.assertEqual((a["text"], a["tries"]), ("", 1))

    def spacing(self, model):
        times = [r[0] for r in self.server.requests if r[3] and json.loads(r[3])["model"] == model]
        return [b - a for a, b in zip(times, times[1:])]

    def test_retries_as_the_server_asks(self):
        for model, least in (("e429-tokens", 0.05), ("e429-requests", 0.04), ("e429-queue", 0.01),
                             ("e500", 0.01), ("e503-string", 0.01), ("e400-again", 0.01)):  # fmt: skip
            with self.subTest(model):
                self.assertEqual(self.bad(model, ".", retries=2)["tries"], 3)
                self.assertEqual(len(self.spacing(model)), 2)
                for gap in self.spacing(model):
                    self.assertGreaterEqual(gap, least)
                    self.assertLess(gap, least + 5)

    def test_what_is_not_tried_again(self):
        for model in ("e401", "e404", "e400-context", "e422", "e429-stay-away", "e429-hour", "e302"):
            with self.subTest(model):
                self.assertEqual(self.bad(model, ".", retries=2)["tries"], 1)
                self.assertEqual(self.spacing(model), [])

    def test_backs_off_by_itself(self):
        a = self.bad("e503", ".", retries=2)
        first, second = self.spacing("e503")
        self.assertTrue(0.37 <= first <= 5, first)
        self.assertTrue(0.75 <= second <= 5, second)
        self.assertTrue(1.12 <= a["waited_s"] <= 1.5, a)

    def test_a_retry_that_helps(self):
        a = self.good("later", retries=2)
        self.assertEqual((a["text"], a["tries"]), (TEXT, 3))
        self.assertAlmostEqual(a["waited_s"], 0.09, delta=0.001)
        self.assertEqual(self.good("drops-once", retries=1)["tries"], 2)


class Misbehaviour(RemoteTest):
    def test_breaks_off(self):
        for model in ("closes", "half-head", "half-body", "half-chunked", "no-http"):
            for stream in (False, True):
                with self.subTest(model, stream=stream):
                    self.bad(model, "answer broke off", stream=stream)
        part = "Oi! Tudo bem"
        for model, says in (("half-stream", "answer is not usable|broke off"),
                            ("half-chunked", "answer broke off"),
                            ("ends-early", "its stream ended before it said why"),
                            ("error-in-stream", "500 error of the server: Encountered a server error")):  # fmt: skip
            with self.subTest(model):
                a = self.bad(model, says, retries=2)
                self.assertEqual((a["text"], a["tries"]), (part, 1))
        # What came after the reason to end is not important; a refusal counts as far as it was heard.
        for model in ("done-and-half", "done-and-stalls"):
            a = self.good(model)
            self.assertEqual((a["text"], a["finish"]), (TEXT, "stop"))
            self.assertLess(a["total_s"], 2)
            self.assertLess(a["seconds"], 8)
        self.bad("half-refusal", "403 forbidden: You shall not pass", stream=False)
        self.bad("bad-chunk", "broke off|not usable")
        self.bad("error-first", "429 too many requests: Queue is full .queue_exceeded.")
        self.bad("named-error", "it gave up half-way: overloaded")

    def test_is_something_else(self):
        self.bad("nothing", "204 refused")
        for model in ("html", "no-json", "list", "no-choices", "wrong-types", "negative", "deep"):
            for stream in (False, True):
                with self.subTest(model, stream=stream):
                    self.bad(model, "answer is not usable", stream=stream)
        for model in ("no-json-in-stream", "not-utf8"):
            self.bad(model, "answer is not usable")
        self.bad("gzip", "it is compressed, which was not asked for: gzip", stream=False)
        self.bad("controls", r"bad\\x1b\[31m\\x0d line", stream=False)

    def test_too_much(self):
        for model, says in (("endless-text", "more than 3000000 bytes"),
                            ("endless-event", "more than (3000000|4194304) bytes"),
                            ("endless-line", "more than 3000000 bytes|not usable"),
                            ("endless-headers", "its status line or its headers are too long"),
                            ("long-status-line", "its status line or its headers are too long"),
                            ("endless-error", "500 error of the server: sorry sorry")):  # fmt: skip
            with self.subTest(model):
                a = self.bad(model, says, stream="line" not in model, most_bytes=3_000_000, total_s=20)
                self.assertLess(a["seconds"], 15)

    def test_nothing_comes(self):
        for model, says, limits in (
            ("stalls", "answer broke off", {"idle_s": 1.5}),
            ("stalls", "was not there after 2 s", {"total_s": 2}),
            ("stalls-at-once", "answer broke off", {"idle_s": 0.3}),
            ("stalls-at-once", "was not there after 0.4 s", {"total_s": 0.4}),
            ("endless-comments", "was not there after 2 s", {"total_s": 2, "idle_s": 1.5}),
            ("said-to-be-huge", "broke off", {"idle_s": 0.3, "stream": False}),
        ):
            with self.subTest(model, **limits):
                a = self.bad(model, says, **limits)
                self.assertLess(a["seconds"], 6)
                text = {"stalls": "Oi! Tudo bem", "endless-comments": "Oi"}.get(model, "")
                self.assertEqual(a["text"], text)

    def test_the_user_stops_it(self):
        for model in ("stalls", "stalls-at-once", "endless-comments", "e503"):
            with self.subTest(model):
                a = self.ask(model, cancel_after_s=0.2, retries=9)
                self.assertEqual(a["error"]["code"], 130)
                self.assertLess(a["seconds"], 4)

    def test_a_silent_listener(self):
        """One that takes connections, and does not speak TLS or anything else."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"://127.0.0.1:{silent.getsockname()[1]}"
            for scheme in ("https", "http"):
                environment = variables(self.server, CEREBRAS_BASE_URL=scheme + address)
                a = self.ask("good", environment=environment, cancel_after_s=0.2)
                self.assertEqual((a["error"]["code"], a["thread_left"]), (130, False))
                self.assertLess(a["seconds"], 2.5)
                a = self.bad("good", "was not there after 0.4 s", environment=environment, total_s=0.4)
                self.assertIs(a["thread_left"], False)
                self.assertLess(a["seconds"], 2.5)
            environment = variables(self.server, CEREBRAS_BASE_URL="https" + address)
            self.bad("good", "no TLS connection to it was made in 0.3 s", environment=environment,
                     connect_s=0.3)  # fmt: skip

    def test_nobody_is_there(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        address = {"CEREBRAS_BASE_URL": f"http://127.0.0.1:{port}"}
        a = self.bad("good", "server cannot be reached .*check the network",
                     environment=variables(self.server, **address), retries=1)  # fmt: skip
        self.assertEqual(a["tries"], 2)
        # Whatever the system says of a host that is not there, and however long it looks for it.
        address = {"CEREBRAS_BASE_URL": "https://no-such-host.invalid"}
        a = self.bad("good", "server cannot be reached|was not there after 1 s", total_s=1,
                     environment=variables(self.server, **address))  # fmt: skip
        self.assertLess(a["seconds"], 5)


class Tls(RemoteTest):
    def test_certificates(self):
        server = self.secure
        trusting = variables(server, **self.trust)
        for stream in (True, False):
            self.assertEqual(self.good("good", environment=trusting, stream=stream)["text"], TEXT)
        for model in ("chunked", "bytes", "crlf", "done-and-on"):
            self.assertEqual(self.good(model, environment=trusting)["text"], TEXT)
        for model in ("half-body", "closes"):
            self.bad(model, "answer broke off", environment=trusting, stream=False)
        self.bad("half-chunked", "answer broke off", environment=trusting)
        self.bad("endless-headers", "too long", environment=trusting)
        self.bad("stalls", "2 s", environment=trusting, total_s=2)
        a = self.ask("stalls", environment=trusting, cancel_after_s=0.2)
        self.assertEqual(a["error"]["code"], 130)
        asked = len(server.requests)
        a = self.bad("good", "is not who it should be .*self.signed",
                     environment=variables(server), retries=2)  # fmt: skip
        self.assertEqual((a["tries"], len(server.requests)), (1, asked))
        other = trusting | {"CEREBRAS_BASE_URL": server.address.replace("127.0.0.1", "localhost")}
        self.bad("good", "its certificate is for another host", environment=other)
        self.assertEqual(len(server.requests), asked)  # nothing was sent to a stranger
        plain = variables(server, CEREBRAS_BASE_URL=server.address.replace("https", "http"))
        self.bad("good", "answer broke off", environment=plain)
        secure = variables(self.server, CEREBRAS_BASE_URL=self.server.address.replace("http", "https"))
        a = self.bad("good", "no TLS connection", environment=secure)
        self.assertLess(a["seconds"], 4)  # told so, not waited for


class Secrets(RemoteTest):
    def test_what_is_echoed_is_not_shown(self):
        # ask() looks for the key in all that the probe prints, its log at the finest level included.
        for model in ("echo-error", "echo-html", "echo-in-stream"):
            with self.subTest(model):
                self.assertIn("[key]", self.bad(model, ".")["line"])
        a = self.good("echo-text")
        self.assertIn("You said [key]", a["text"])
        self.assertEqual((a["reasoning"], a["finish"], a["request_id"]), ("[key]",) * 3)
        self.assertEqual(a["rate_limits"], {"[key]": "[key]"})

    def test_addresses_and_keys_that_cannot_be_used(self):
        key = {"CEREBRAS_API_KEY": KEY + "\n"}
        for more, code in ((key, 2), ({"CEREBRAS_API_KEY": ""}, 3),
                           ({"CEREBRAS_BASE_URL": f"https://user:{KEY}@example.org"}, 2),
                           ({"CEREBRAS_BASE_URL": f"https://example.org/?key={KEY}"}, 2),
                           ({"CEREBRAS_BASE_URL": "http://example.org"}, 2)):  # fmt: skip
            a = self.ask("good", environment=variables(self.server, **more))
            self.assertEqual(a["error"]["code"], code, a)


class CommandLine(RemoteTest):
    """`kernelforge llm-inference --compare-cerebras` with SmolLM2."""

    def setUp(self):
        if not self.kernelforge or not self.local:
            self.skipTest("there is no command line in this build, or no model")
        super().setUp()
        self.home = self.folder / "home"

    def run_it(self, model, *more, environment=None, prompt="Hello"):
        line = [self.kernelforge, "llm-inference", *self.local, "--chat", "-p", prompt,
                "--compare-cerebras", model, *(more if "-n" in more else ["-n", "8", *more])]  # fmt: skip
        self.home.mkdir(exist_ok=True)
        places = dict.fromkeys(("KERNELFORGE_HOME", "HOME", "TMPDIR"), str(self.home))
        environment = {**(environment or variables(self.server)), **places}
        done = subprocess.run([str(a) for a in line], capture_output=True, text=True, env=environment,
                              timeout=120, cwd=self.home)  # fmt: skip
        self.assertEqual(leaks(done.stdout + done.stderr), [])
        return done

    def answer(self, code, *arguments, **how):
        done = self.run_it(*arguments, "--json", **how)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout.count("\n"), 1)
        return json.loads(done.stdout)

    def test_table(self):
        done = self.run_it("good", "--temperature", 0)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(TEXT, done.stdout)
        for name in ("model", "prompt tokens", "completion tokens", "time to first token, s",
                     "tokens/s, wall clock", "tokens/s, server's clock", "queue, server's clock, s",
                     "total time, s", "finish reason"):  # fmt: skip
            self.assertRegex(done.stdout, rf"(?m)^{name}  ")
        self.assertRegex(done.stdout, r"(?m)^completion tokens +8 +11$")
        self.assertRegex(done.stdout, r"(?m)^tokens/s, server's clock +- +3100\.5$")
        self.assertNotIn("Not sent", done.stdout)
        self.assertLess(max(map(len, done.stdout.splitlines())), 101)

    def test_json(self):
        a = self.answer(0, "good", "--seed", 3, "--stop", "END", "--system", "Be brief")
        remote = a["remote"]
        self.assertEqual((remote["text"], remote["finish_reason"]), (TEXT, "stop"))
        self.assertEqual((remote["prompt_tokens"], remote["generated_tokens"]), (20, 11))
        times = remote["timings"]
        self.assertAlmostEqual(times["server_tokens_per_s"], 11 / 0.00354778)
        self.assertAlmostEqual(times["wall_tokens_per_s"], 11 / times["total_s"])
        self.assertLessEqual(times["time_to_first_token_s"], times["total_s"])
        self.assertEqual(remote["not_sent"], ["top_k 40", "min_p 0.05"])
        self.assertNotIn("error", remote)
        self.assertGreater(a["generated_tokens"], 0)
        local = a["timings"]
        self.assertAlmostEqual(local["wall_tokens_per_s"], a["generated_tokens"] / local["total_s"])
        body = json.loads(self.server.requests[-1][3])
        self.assertEqual(body["messages"], [{"role": "system", "content": "Be brief"},
                                            {"role": "user", "content": "Hello"}])  # fmt: skip
        self.assertEqual((body["temperature"], body["top_p"], body["seed"]), (0.8, 0.95, 3))
        self.assertEqual((body["max_completion_tokens"], body["stop"]), (8, ["END"]))
        whole = self.answer(0, "good", "--cerebras-no-stream")
        self.assertIsNone(whole["remote"]["timings"]["time_to_first_token_s"])
        self.assertNotIn("stream_options", json.loads(self.server.requests[-1][3]))

    def test_the_local_side_is_shown_whatever_happens(self):
        closed = {"CEREBRAS_BASE_URL": "http://127.0.0.1:1"}
        for model, code, says, more in (
            ("good", 3, "there is no API key", {"CEREBRAS_API_KEY": ""}),
            ("good", 4, "cannot be reached", closed),
            ("e401", 4, "Wrong API Key", {}),
            ("error-in-stream", 4, "Encountered a server error", {}),
        ):
            with self.subTest(model, **more):
                environment = variables(self.server, **more)
                done = self.run_it(model, "--cerebras-retries", 0, environment=environment)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertRegex(done.stdout, r"(?m)^completion tokens +8 +-$")
                self.assertRegex(done.stdout, rf"(?m)^Cerebras: .*{says}")
                self.assertRegex(done.stderr, rf"(?m)^kernelforge: error: .*{says}")
                a = self.answer(code, model, "--cerebras-retries", 0, environment=environment)
                self.assertEqual(a["remote"]["error"]["code"], code)
                self.assertGreater(a["generated_tokens"], 0)
                if model == "error-in-stream":
                    self.assertEqual(a["remote"]["text"], "Oi! Tudo bem")

    def test_nothing_of_the_key_is_left_anywhere(self):
        for model in ("good", "echo-error", "echo-text", "echo-html"):
            for verbosity in ("", "-v", "-vvv") if model == "echo-text" else ("-vvv",):
                self.run_it(model, *filter(None, [verbosity]))  # which looks at what is printed
        files = [f for f in self.home.rglob("*") if f.is_file()]
        self.assertGreater(len(files), 0)
        for file in files:
            self.assertEqual(leaks(file.read_bytes().decode("latin-1")), [], file)

    def test_ctrl_c(self):
        line = [self.kernelforge, "llm-inference", *self.local, "--chat", "-p", "Hello", "-n", "4",
                "--compare-cerebras", "stalls"]  # fmt: skip
        environment = {**variables(self.server), "KERNELFORGE_HOME": str(self.home)}
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=environment)  # fmt: skip
        until = time.monotonic() + 60
        while not self.server.requests and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 130)
        self.assertRegex(out, r"(?m)^completion tokens +4 +-$")

    def test_wrong_usage(self):
        for more in (["--temperature", 1.6], sum((["--stop", c] for c in "abcde"), []), ["-n", 0]):
            done = self.run_it("good", *more)
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
            self.assertIn("the hosted model", done.stderr)
        done = self.run_it("")
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertEqual(self.server.requests, [])
        line = [self.kernelforge, "llm-inference", *self.local, "-p", "x", "--compare-cerebras", "m"]
        done = subprocess.run(line, capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("add --chat", done.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", required=True)
    parser.add_argument("--kernelforge")
    options, rest = parser.parse_known_args()
    RemoteTest.probe = Path(options.probe).resolve()
    RemoteTest.kernelforge = options.kernelforge and Path(options.kernelforge).resolve()
    model = find_model("smollm2") if options.kernelforge else None
    CommandLine.local = ["-m", model] if model else None
    if rest:
        unittest.main(argv=[sys.argv[0], *rest])
    return 0 if run_together(RemoteTest.__subclasses__()) else 1


def run_together(classes):
    """Runs each class in a thread of its own, since most of them wait; whether all succeeded."""
    def run_one(one):
        said = io.StringIO()
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(one)
        result = unittest.TextTestRunner(stream=said, verbosity=2).run(suite)
        print(said.getvalue(), end="", file=sys.stderr)
        return result.wasSuccessful()

    with ThreadPoolExecutor(len(classes)) as pool:
        return all(list(pool.map(run_one, classes)))


if __name__ == "__main__":
    sys.exit(main())
