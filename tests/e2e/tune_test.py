#!/usr/bin/env python3
"""Tuning, its records and what uses them; many tuners at once, some of which are killed.

    tune_test.py --bin build/release/bin
    KERNELFORGE_TUNERS_SECONDS=60 tune_test.py --bin build/release/bin ManyTuners
"""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cli
import modules
from cli import CliTest, kernelforge, shown

BLOCK = "d_model=64,heads=4,kv_heads=2,d_ff=96"
KEY_FIELDS = [
    "family", "kernel_hash", "problem", "target", "cpu_model", "toolchain", "threads", "affinity",
]  # fmt: skip


def sizes(m, n, k):
    return ["-m", m, "-n", n, "-k", k, "--threads", 1]


def compact(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def signed(record):
    """A record's line, with the key's id and the checksum of what it says now."""
    fields = {name: value for name, value in record.items() if name != "checksum"}
    key = compact({name: record[name] for name in KEY_FIELDS})
    fields["key"] = hashlib.sha256(key.encode()).hexdigest()[:16]
    body = compact(fields)[:-1]
    checksum = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f'{body},"checksum":"{checksum}"}}\n'


def is_candidate(record):
    """Whether a record is of a schedule that a search proposed."""
    return record["variant"] == "generated" and record.get("schedule_source") != "analytic"


def rewritten(home, target, change):
    """Writes the records of one home to another with something changed; `change` is given each."""
    records = [json.loads(line) for line in log_of(home).read_text().splitlines()]
    for record in records:
        change(record)
    log_of(target).parent.mkdir(parents=True, exist_ok=True)
    log_of(target).write_text("".join(map(signed, records)))


def settle(home, target):
    """Writes the records of one home to another as of a calm machine where the last of the generated
    candidates that are not the default won. What the records decide does not depend on how loaded
    this machine was then."""
    records = [json.loads(line) for line in log_of(home).read_text().splitlines()]
    winner = [r["schedule"] for r in records if is_candidate(r)][-1]
    for record in records:
        won = is_candidate(record) and record["schedule"] == winner
        record["trusted"], record["ratio"] = True, 0.5 if won else 1.0
        record.pop("why_untrusted", None)
        record["samples_ns"] = [ns * record["ratio"] for ns in record["baseline_ns"]]
    log_of(target).parent.mkdir(parents=True, exist_ok=True)
    log_of(target).write_text("".join(map(signed, records)))
    return winner


def log_of(home):
    return home / "records" / "records.jsonl"


def lines_of(log):
    """The whole lines of a log that is being written."""
    text = log.read_bytes() if log.exists() else b""
    return set(text[: text.rfind(b"\n") + 1].splitlines())


class Tuning(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.home = Path(os.environ["KERNELFORGE_HOME"])
        done = kernelforge("tune", "--family", "matmul", *sizes(16, 48, 64), "--trials", 6,
                           "--seed", 7, "--json")  # fmt: skip
        assert done.returncode == 0, shown(done)
        cls.tuned = json.loads(done.stdout)
        cls.winner = settle(cls.home, cls.folder / "settled")

    def home_of(self, name):
        """The environment with another home."""
        return {**os.environ, "KERNELFORGE_HOME": str(self.folder / name)}

    def test_what_tuning_says(self):
        (kernel,) = self.tuned["kernels"]
        self.assertEqual(kernel["family"], "matmul")
        self.assertEqual((kernel["trials"], kernel["failed"]), (6, 0))
        self.assertEqual(len(kernel["proposals"]), 6)
        self.assertRegex(kernel["key"], "^[0-9a-f]{16}$")
        self.assertEqual(self.tuned["records"], str(self.home / "records" / "records.jsonl"))
        listed = self.answer("records", "list")
        self.assertEqual(listed["torn_lines"], 0)
        self.assertGreaterEqual(len(listed["records"]), 6)
        for record in listed["records"]:
            self.assertEqual((record["key"], record["status"]), (kernel["key"], "ok"))
        self.assertIs(type(kernel["better_found"]), bool)  # that depends on the machine
        for best in self.answer("records", "list", "--best")["records"]:  # none is trusted under load
            if best["variant"] == "generated":
                self.assertEqual(best["schedule"], kernel["schedule"])
        (best,) = self.answer("records", "list", "--best", env=self.home_of("settled"))["records"]
        self.assertEqual(best["schedule"], self.winner)
        self.assertLessEqual({"blocked", "parallel"}, {v["variant"] for v in kernel["variants"]})
        for other in kernel["variants"]:
            self.assertEqual(other["status"], "ok")
            count = sum(r["variant"] == other["variant"] for r in listed["records"])
            self.assertEqual(count, 1, other["variant"])
        shown_lines = self.ok("records", "show", kernel["key"], "--json").splitlines()
        self.assertEqual(len(shown_lines), len(listed["records"]))

    def test_tuning_again_measures_nothing(self):
        again = self.answer("tune", "--family", "matmul", *sizes(16, 48, 64), "--trials", 6,
                            "--seed", 7)["kernels"][0]  # fmt: skip
        self.assertEqual(again["measured"], 0)
        for field in ("schedule", "proposals", "reason", "code_hash"):
            self.assertEqual(again[field], self.tuned["kernels"][0][field])

    def test_the_default_wins_where_nothing_is_better(self):
        def level(record):  # no candidate is better than the default, and none is measured again
            record["trusted"], record["status"] = True, "ok"
            record.pop("why_untrusted", None)
            factor = 0.985 if is_candidate(record) else 1.0
            record["baseline_ns"] = [1000.0] * 15
            record["samples_ns"] = [1000.0 * factor] * 15
            record["ratio"] = factor

        # Random proposals do not depend on what came of those before.
        line = ["tune", "--family", "matmul", *sizes(16, 48, 64), "--trials", 4, "--strategy", "random"]
        self.answer(*line, env=self.home_of("measured"))
        rewritten(self.folder / "measured", self.folder / "level", level)
        env = self.home_of("level")
        kernel = self.answer(*line, env=env)["kernels"][0]
        self.assertEqual((kernel["measured"], kernel["better_found"]), (0, False))
        self.assertEqual(kernel["ratio_to_default"], 1)
        self.assertIn("nothing better found: {", self.ok(*line, env=env))
        (best,) = self.answer("records", "list", "--best", env=env)["records"]
        self.assertEqual(best["schedule_source"], "analytic")
        row = self.answer("benchmark-matmul", *sizes(16, 48, 64), "--mode", "correctness", env=env)
        self.assertEqual(row["schedule"], best["schedule"])
        # Where a near problem found nothing better, its default is not this one's.
        near = self.answer("benchmark-matmul", *sizes(16, 56, 64), "--mode", "correctness", env=env)
        self.assertEqual(near["schedule_source"], "analytic")

    def test_a_home_that_cannot_be_written_is_said_before_searching(self):
        (self.folder / "file").write_text("x")
        line = ["tune", "--family", "matmul", *sizes(16, 48, 64), "--trials", 100000]
        for home in ("/proc/none", str(self.folder / "file"), str(self.folder / "file" / "home")):
            with self.subTest(home):
                env = {**os.environ, "KERNELFORGE_HOME": home}
                self.refused(4, *line, env=env, says="records cannot be kept")

    def test_time_that_is_over_before_the_first_kernel(self):
        self.refused(1, "tune", "--family", "matmul", *sizes(16, 48, 64), "--seconds", 1e-9,
                     says="nothing was tuned")  # fmt: skip

    def test_lists_say_why_a_record_does_not_compete(self):
        def change(record):
            if record["variant"] == "blocked":
                record["trusted"], record["why_untrusted"] = False, "someone was here"
            elif record["variant"] == "parallel":
                record["status"], record["error"] = "crash", "it died of " + 100 * "x"
            else:
                record["trusted"] = True
                record.pop("why_untrusted", None)

        rewritten(self.home, self.folder / "reasons", change)
        env = self.home_of("reasons")
        key = self.tuned["kernels"][0]["key"]
        for action in (["list"], ["show", key]):
            text = self.ok("records", *action, env=env)
            (blocked,) = (line for line in text.splitlines() if " blocked " in f" {line}")
            self.assertIn(" untrusted ", blocked)
            self.assertIn("not trusted: someone was here", blocked)
            (parallel,) = (line for line in text.splitlines() if " parallel " in f" {line}")
            self.assertRegex(parallel, r"it died of x+\.\.\.$")
            self.assertNotIn("transformer.kernel", text)
        self.assertIn(f"key {key}: matmul", text)
        self.assertRegex(text, r"\n  chosen +\S+")
        full = self.ok("records", "show", key, "--full", env=env)
        self.assertIn("transformer.kernel", full)
        self.assertIn('"why_untrusted": "someone was here"', full)

    def test_schedules_given_in_part(self):
        problem = ["benchmark-matmul", *sizes(16, 48, 64), "--mode", "correctness"]
        for given in ({"mr": 2}, {"mr": 5}, {"mc": 10}, {"groups": 3}, {"splits": 2}, {"prefetch": 4}):
            row = self.answer(*problem, "--schedule", json.dumps(given))
            self.assertEqual((row["status"], row["schedule_source"]), ("ok", "pinned"))
            self.assertLessEqual(given.items(), row["schedule"].items())
        self.refused(2, *problem, "--schedule", '{"mr":99}', says="knob mr): it is 99, but must be from")
        self.refused(2, *problem, "--schedule", '{"kc":64,"splits":9}', says="knob splits): it is 9")
        self.refused(2, "tune", "--family", "matmul", *sizes(16, 48, 64), "--start", '{"mr":99}',
                     says="knob mr)")  # fmt: skip

    def test_records_travel_and_are_replayed(self):
        file = self.folder / "exported.jsonl"
        count = self.answer("records", "export", file, env=self.home_of("settled"))["exported"]
        best = self.folder / "best.jsonl"
        exported = self.answer("records", "export", best, "--best", env=self.home_of("settled"))["exported"]
        rows = [json.loads(line) for line in best.read_text().splitlines()]
        self.assertEqual(len(rows), exported)
        self.assertIn(self.winner, [row["schedule"] for row in rows])
        self.assertEqual(len({row["key"] for row in rows}), len(rows), "one winner of each key")
        self.assertTrue(all(row.get("schedule_source") != "analytic" for row in rows))
        other = self.home_of("imported")
        counts = self.answer("records", "import", file, env=other)
        self.assertEqual(counts, {"imported": count, "duplicates": 0, "damaged": 0})
        counts = self.answer("records", "import", file, env=other)
        self.assertEqual(counts, {"imported": 0, "duplicates": count, "damaged": 0})
        kernel = self.tuned["kernels"][0]
        replayed = self.answer("records", "replay", kernel["key"], env=other)
        self.assertEqual(replayed["schedule"], self.winner)
        self.assertEqual(replayed["code_hash"]["now"], replayed["code_hash"]["then"])
        self.assertIs(replayed["stale"], False)
        self.assertIs(replayed["output_bits_equal"], True)
        text = self.ok("records", "replay", kernel["key"][:8], env=other)
        self.assertIn("the same bits", text)
        self.assertRegex(text, r"\nof the default's time: 0\.500 then, \d+\.\d{3} now\n")
        # The default is replayed where no record is better.
        rewritten(self.home, self.folder / "untrusted", lambda record: record.update(trusted=False))
        replayed = self.answer("records", "replay", kernel["key"], env=self.home_of("untrusted"))
        self.assertIn("the analytic default", replayed["reason"])

    def test_the_code_of_winners_is_checked(self):
        """Here the winners; once more as of older code, of another processor, of another LLVM, and
        of a schedule that is not legal. Nothing is run for it."""
        settled = self.home_of("settled")
        (listed,) = self.answer("records", "list", "--check", env=settled)["records"]
        (best,) = self.answer("records", "list", "--best", env=settled)["records"]
        self.assertEqual(listed["key"], best["key"])
        log = log_of(self.folder / "settled")
        records = [json.loads(line) for line in log.read_text().splitlines()]
        record = next(r for r in records if r["variant"] == "generated")
        cases = {
            "same": {},
            "stale": {"code_hash": "older"},
            "same on another processor": {"cpu_model": "Abacus 9000"},
            "unknown: toolchain": {"toolchain": "LLVM 1.0"},
            "unknown": {"kernel": "what?"},
            "unknown: schedule is not legal": {"schedule": {"mr": 77}},
        }
        for case, changes in cases.items():
            name = case.replace(" ", "-").replace(":", "")
            target = self.folder / name / "records"
            target.mkdir(parents=True)
            (target / "records.jsonl").write_text(signed({**record, **changes}))
            with self.subTest(case):
                line, env = ("records", "list", "--check"), self.home_of(name)
                (checked,) = self.answer(*line, env=env)["records"]
                self.assertEqual(checked["code"], case.split(" ")[0].rstrip(":"))
                self.assertEqual("code_why" in checked, checked["code"] == "unknown")
                self.assertIn(case.partition(": ")[2], checked.get("code_why", ""))
                self.assertIn(f' {checked["code"]} ', self.ok(*line, env=env))

    def test_another_kernel_is_learned_from(self):
        home = self.home_of("two-kernels")
        line = ["tune", "--family", "matmul", "--trials", 5, "--seed", 7]
        first = self.answer(*line, *sizes(16, 48, 64), env=home)["kernels"][0]
        self.assertEqual(first["prior_trials"], 0)
        second = self.answer(*line, *sizes(16, 64, 64), env=home)["kernels"][0]
        self.assertGreaterEqual(second["prior_trials"], 1)
        # What comes later changes neither search.
        for size, before in ((48, first), (64, second)):
            again = self.answer(*line, *sizes(16, size, 64), env=home)["kernels"][0]
            self.assertEqual(again["measured"], 0)
            for field in ("schedule", "proposals", "reason", "prior_trials"):
                self.assertEqual(again[field], before[field])

    def test_records_decide(self):
        problem = ["benchmark-matmul", *sizes(16, 48, 64), "--mode", "correctness"]
        settled = self.home_of("settled")
        row = self.answer(*problem, env=settled)
        self.assertEqual(row["schedule_source"], "record")
        self.assertEqual(row["schedule"], self.winner)
        near = self.answer("benchmark-matmul", *sizes(16, 56, 64), "--mode", "correctness",
                           env=settled)  # fmt: skip
        self.assertEqual(near["schedule_source"], "transferred")
        without = self.answer(*problem, env=self.home_of("empty"))
        self.assertEqual(without["schedule_source"], "analytic")

    def test_records_of_another_processor_do_not(self):
        other = self.home_of("foreign")
        log = log_of(self.folder / "settled")
        target = self.folder / "foreign" / "records"
        target.mkdir(parents=True)
        records = [json.loads(line) for line in log.read_text().splitlines()]
        problem = ["benchmark-matmul", *sizes(16, 48, 64), "--mode", "correctness"]
        for cpu, source in ((records[0]["cpu_model"], "record"), ("Abacus 9000", "analytic")):
            lines = [signed({**record, "cpu_model": cpu}) for record in records]
            (target / "records.jsonl").write_text("".join(lines))
            listed = self.answer("records", "list", env=other)
            self.assertEqual(listed["torn_lines"], 0)
            self.assertEqual({r["cpu_model"] for r in listed["records"]}, {cpu})
            row = self.answer(*problem, env=other)
            self.assertEqual(row["schedule_source"], source)
        key = json.loads(lines[0])["key"]
        self.refused(3, "records", "replay", key, env=other, says="cpu_model")

    def test_the_schedule_stage_says_where_schedules_are_from(self):
        emit = ["emit-mlir", "--block", BLOCK, "--phase", "decode", "--threads", 1]
        home = self.home_of("block")
        module = self.folder / "block.mlir"
        self.ok(*emit, "--stage", "fused", "-o", module, env=home)
        kernels = [line.split("@")[1].split("(")[0] for line in module.read_text().splitlines()
                   if line.strip().startswith("transformer.kernel")]  # fmt: skip
        name = next(kernel for kernel in kernels if kernel.endswith(".ffn_down"))
        tuned = self.answer("tune", module, "--kernel", name, "--trials", 2, "--threads", 1,
                            env=home)["kernels"]  # fmt: skip
        self.assertEqual([kernel["kernel"] for kernel in tuned], [name])
        settle(self.folder / "block", self.folder / "block")
        text = self.ok(*emit, "--stage", "scheduled", "--kernel", name, env=home)
        self.assertIn('"record"', text)
        self.assertIn(f'won in the record of key {tuned[0]["key"]}', text)
        before = self.ok(*emit, "--stage", "scheduled", "--kernel", name, env=self.home_of("empty"))
        self.assertNotIn('"record"', before)

    def test_wrong_usage(self):
        for arguments in (
            ["tune"],
            ["tune", "--family", "matmul"],
            ["tune", "--family", "softmax"],
            ["tune", "--family", "matmul", "--block", BLOCK],
            ["tune", "x.mlir", "--family", "matmul", *sizes(1, 8, 8)],
            ["tune", "/nonexistent.mlir"],
            ["tune", "--family", "matmul", *sizes(1, 8, 8), "--trials", 0],
            ["tune", "--family", "matmul", *sizes(1, 8, 8), "--seconds", -1],
            ["tune", "--family", "matmul", *sizes(1, 8, 8), "--strategy", "guess"],
            ["tune", "--family", "matmul", *sizes(1, 8, 8), "--kernel", "nobody"],
            ["tune", "--family", "matmul", *sizes(1, 8, 8), "--start", '{"speed":1}'],
            ["tune", "--family", "matmul", *sizes(1, 8, 8), "--start", "{"],
            ["tune", "--family", "matmul", *sizes(1, 8, 33), "--weights", "q4_1"],
            ["tune", "--replay", "/nonexistent.json"],
            ["tune", "--replay", "/nonexistent.json", "--records", -1],
            ["records"],
            ["records", "show"],
            ["records", "prune"],
            ["records", "list", "--status", "splendid"],
            ["records", "prune", "--status", "splendid"],
        ):
            with self.subTest(arguments):
                self.refused(2, *arguments)

    def test_options_that_would_do_nothing(self):
        matmul = ["tune", "--family", "matmul", *sizes(1, 8, 8)]
        for arguments, option in (
            (["tune", "-", "-m", 3], "-m"),
            (["tune", "-", "--weights", "q8_0"], "--weights"),
            (["tune", "--random-weights", "tiny", "--transpose"], "--transpose"),
            (["tune", "-", "--prefill-chunk", 3], "--prefill-chunk"),
            (["tune", "-", "--random-type", "f16"], "--random-type"),
            (["tune", "-", "--depth", 7], "--depth"),
            (["tune", "-", "--points", 7], "--points"),
            ([*matmul, "--depth", 7], "--depth"),
            ([*matmul, "--kernel", "foo"], "--kernel"),
            ([*matmul, "--seeds", 7], "--seeds"),
            ([*matmul, "--no-records"], "--no-records"),
            ([*matmul, "--record-space", self.folder / "space", "--trials", 3], "--trials"),
            (["tune", "--replay", "x.json", "--seconds", 3], "--seconds"),
            (["tune", "-", "--replay", "x.json"], "file"),
        ):
            with self.subTest(arguments):
                self.refused(2, *arguments, text=modules.BLOCK, says=f"wrong usage ({option}): ")
        self.refused(2, "tune", "--family", "matmul", "-m", 3, "-n", 3, says="-k is required")
        self.assertNotIn("--no-records", self.ok("tune", "--help"))

    def test_a_schedule_in_a_file_stays(self):
        file = self.folder / "pinned.mlir"
        self.ok("emit-mlir", "-", "--stage", "scheduled", "-o", file, text=modules.BLOCK)
        self.assertIn('schedule_source = "analytic"', file.read_text())
        for run in ([], ["--run"]):
            answer = self.answer("compile", file, *run)
            self.assertEqual({k["schedule_source"] for k in answer["kernels"]}, {"pinned"})
        tune = ["tune", "--trials", 1, "--threads", 1]
        env = self.home_of("pinned")
        done = kernelforge(*tune, file, env=env)
        self.assertEqual(done.returncode, 0, shown(done))
        self.assertIn("keeps its own schedule of @", done.stderr)
        # As it advises.
        bare = re.sub(r"schedule = #transformer.schedule<{.*?}>, ", "", file.read_text())
        self.assertNotEqual(bare, file.read_text())
        done = kernelforge(*tune, "-", text=bare, env=env)
        self.assertEqual(done.returncode, 0, shown(done))
        self.assertNotIn("keeps", done.stderr)

    def test_states_and_empty_files(self):
        rewritten(self.home, self.folder / "states", lambda record: record.update(trusted=False))
        env = self.home_of("states")
        count = len(self.answer("records", "list", env=env)["records"])
        self.assertGreater(count, 5)
        for status, there in (("untrusted", count), ("ok", 0)):
            listed = self.answer("records", "list", "--status", status, env=env)["records"]
            self.assertEqual(len(listed), there)
        pruned = self.answer("records", "prune", "--status", "untrusted", env=env)
        self.assertEqual(pruned["removed"], count)
        for action in (["show", ""], ["replay", ""], ["export", self.folder / "none.jsonl", "--key", ""]):
            self.refused(2, "records", *action, says="an empty text")
        damaged = self.folder / "damaged.jsonl"
        damaged.write_text("no record\n" * 10)
        self.refused(2, "records", "import", damaged, says="none of its 10 lines")
        damaged.write_text("no record\n" + log_of(self.home).read_text())
        self.assertEqual(self.answer("records", "import", damaged)["damaged"], 1)
        damaged.write_text("")
        self.assertEqual(self.answer("records", "import", damaged)["imported"], 0)

    def test_unknown_keys(self):
        for action in ("show", "replay"):
            self.refused(3, "records", action, "0123456789abcdef", says="no such record")
        self.refused(3, "records", "export", self.folder / "none.jsonl", "--key", "0123456789abcdef")
        self.assertFalse((self.folder / "none.jsonl").exists())

    def test_an_interrupt_keeps_the_records(self):
        home = self.home_of("interrupted")
        log = self.folder / "interrupted" / "records" / "records.jsonl"
        line = [cli.BIN / "kernelforge", "tune", "--family", "matmul",
                *map(str, sizes(16, 48, 64)), "--trials", "100000", "--json"]  # fmt: skip
        # A terminal sends the signal to all processes of the group.
        process = subprocess.Popen(line, env=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, start_new_session=True)  # fmt: skip
        until = time.monotonic() + 60
        while len(lines_of(log)) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertEqual(json.loads(output)["error"]["code"], 130)
        listed = self.answer("records", "list", env=home)
        self.assertEqual(listed["torn_lines"], 0)
        self.assertGreaterEqual(len(listed["records"]), 3)
        self.assertEqual({record["status"] for record in listed["records"]}, {"ok"})


class ManyTuners(CliTest):
    """Eight tuners on one store, of which one is killed every second."""

    count = 8

    def start(self, seed):
        return subprocess.Popen(
            [cli.BIN / "kernelforge", "tune", "--family", "matmul", *map(str, sizes(8, 48, 64)),
             "--seed", str(seed), "--strategy", "random", "--trials", "100000"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ours(self):
        """Processes of this test's home: their command lines by id."""
        found = {}
        home = f"KERNELFORGE_HOME={os.environ['KERNELFORGE_HOME']}".encode()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    if home in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                pass  # gone, or another user's
        return found

    def wait_until_it_listens(self, tuner):
        """Before, an interruption ends it as it ends any program."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            status = Path(f"/proc/{tuner.pid}/status").read_text()
            caught = int(status.split("SigCgt:")[1].split()[0], 16)
            if caught >> (signal.SIGINT - 1) & 1:
                return
            time.sleep(0.05)
        self.fail("a tuner did not begin")

    def test_killed_tuners_cost_nothing(self):
        seconds = float(os.environ.get("KERNELFORGE_TUNERS_SECONDS", "8"))
        log = Path(os.environ["KERNELFORGE_HOME"]) / "records" / "records.jsonl"
        chance = random.Random(1)
        tuners = [self.start(seed) for seed in range(self.count)]
        kills, seen, workers = 0, set(), 0
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                time.sleep(1)
                seen |= lines_of(log)
                workers = max(workers, sum(b"tune-worker" in line for line in self.ours().values()))
                i = chance.randrange(self.count)
                self.assertIsNone(tuners[i].poll(), "a tuner ended by itself")
                tuners[i].kill()
                tuners[i].communicate()
                kills += 1
                tuners[i] = self.start(self.count + kills)
            for tuner in tuners:
                self.wait_until_it_listens(tuner)
                tuner.send_signal(signal.SIGINT)
            ends = [(tuner.communicate(timeout=60)[1], tuner.returncode) for tuner in tuners]
        finally:
            for tuner in tuners:
                tuner.kill()
                tuner.wait()
        self.assertEqual({code for _, code in ends}, {130}, ends)
        self.assertGreater(workers, 0)
        end = time.monotonic() + 10
        while self.ours() and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(self.ours(), {}, "processes were left behind")

        final = lines_of(log)
        self.assertTrue(seen <= final, "records were lost")
        listed = self.answer("records", "list")
        self.assertLessEqual(listed["torn_lines"], kills)
        self.assertEqual(len(listed["records"]) + listed["torn_lines"], len(log.read_bytes().splitlines()))
        self.assertEqual({record["status"] for record in listed["records"]}, {"ok"})
        chosen = self.answer("tune", "--family", "matmul", *sizes(8, 48, 64), "--trials", 3)["kernels"][0]
        self.assertEqual(chosen["failed"], 0)
        self.assertTrue(chosen["schedule"])
        print(f"{kills} kills in {seconds:.0f} s, {workers} workers at most, "
              f"{len(listed['records'])} records of {len({r['seed'] for r in listed['records']})} "
              f"searches, {listed['torn_lines']} torn lines; chosen: {chosen['reason']}",
              file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    cli.run(sys.argv)
