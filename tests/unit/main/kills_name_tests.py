#!/usr/bin/env python3
"""A unit test that is killed is named.

    kills_name_tests.py [--sanitized] CRASH-TEST
"""

import argparse
import signal
import subprocess
import sys

# Tests of CrashTest.cpp, and by which signal they end.
KILLS = {
    "Crash.Segmentation": signal.SIGSEGV,
    "Crash.StackOverflow": signal.SIGSEGV,
    "Crash.InAThread": signal.SIGSEGV,
    "Crash.Abort": signal.SIGABRT,
    "Crash.SentBus": signal.SIGBUS,
    "Crash.SentArithmetic": signal.SIGFPE,
    "Crash.SentIllegal": signal.SIGILL,
    "Each/CrashOf.AParameter/0": signal.SIGSEGV,
    "CrashBefore.ATest": signal.SIGSEGV,
}
# Ends before it begins, while its suite is set up.
UNNAMED = "CrashBefore.ATest"


def check(program, test, number, sanitized):
    """What is wrong with the end of a test, or None. Sanitizers end a program their own way."""
    # The test before it, so that it is seen which of the two is named.
    done = subprocess.run([program, f"--gtest_filter=Crash.Passes:{test}"], capture_output=True, text=True)
    if done.returncode != -number and not (sanitized and done.returncode > 0):
        return f"ended with {done.returncode}, not by {number.name}: {done.stderr}"
    named = "no test is running" if test == UNNAMED else test
    expected = f"[  KILLED  ] {named}: "
    if expected not in done.stderr:
        return f"is not named: {done.stderr}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sanitized", action="store_true", help="the program has AddressSanitizer")
    parser.add_argument("program")
    options = parser.parse_args()
    kills = dict(KILLS)
    if options.sanitized:
        kills["Crash.OutOfBounds"] = signal.SIGABRT  # only there it is seen
    failures = 0
    for test, number in kills.items():
        problem = check(options.program, test, number, options.sanitized)
        if problem:
            failures += 1
            print(f"FAIL {test}: {problem}")
    print(f"{len(kills)} tests killed: {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
