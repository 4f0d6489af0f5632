#!/usr/bin/env python3
"""Our template engine against jinja2, set up as transformers sets it up for chat templates.

    jinja_test.py --probe template-probe [--seed N] [--random N]

Renders every case of jinja_cases.py and jinja_chats.py and a number of random templates with both; the texts must be
equal, and where jinja2 refuses, ours must refuse. Where ours deliberately does less (see
kernelforge/llm/template/README.md) a case is listed below with the reason.
"""
import argparse
import copy
import datetime
import functools
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import warnings

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

import jinja_cases as cases
import jinja_chats as chats

NOW = 1721995200  # a fixed time, UTC

# What ours refuses and jinja2 does not: the stated limits of the subset.
REFUSED_BY_US = {
    "9223372036854775807 + 1": "integers have 64 bits",
    "x[]": "an index is a value",
    "'%s' % x": "no formatting by %",
    "{% for p in people recursive %}{% endfor %}": "no recursive loops",
    "{% for i in l %}{% macro f() %}{% endmacro %}{% endfor %}": "no macros inside of loops",
    "namespace(a=namespace())": "no namespace in a namespace",
    "dict(**d)": "no unpacking of arguments",
}
# What ours renders although jinja2 refuses.
ALLOWED_BY_US = {
    "1e400": "jinja2 folds the constant into Python source that has no inf",
    "'inf'|float": "jinja2 folds the constant into Python source that has no inf",
}

# A slice that fails at jinja2's run time is undefined where jinja2 folds constants; ours fails.
WRONG_SLICES = ("cannot be sliced", "the ends of a slice are integers")


class GenerationTag(Extension):
    """Renders the body of {% generation %}, as transformers does."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body, lineno=line)


def make_environment():
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def strftime_now(form):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(form)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


@functools.lru_cache
def compiled(environment, template):
    return environment.from_string(template)


def expected(environment, case):
    # A copy, because jinja2's `sum` adds to the list that it starts from.
    context = copy.deepcopy(case["context"])
    try:
        return {"text": compiled(environment, case["template"]).render(context)}
    except Exception as error:  # noqa: BLE001: whatever a template can do to Python
        return {"error": f"{type(error).__name__}: {error}"}


def said(result):
    """What a template itself says by raise_exception; empty where it says nothing."""
    kind, _, message = result.get("error", "").partition(": ")
    return message if kind == "TemplateError" else ""


def random_expression(rng, depth):
    if depth == 0 or rng.random() < 0.1:
        return rng.choice(cases.ATOMS)
    part = lambda: random_expression(rng, depth - 1)
    form = rng.choice(cases.FORMS)
    return re.sub("@", lambda _: part(), form)


def all_cases(seed, count):
    for name, template in chats.CHAT.items():
        for conversation in chats.CONVERSATIONS:
            for prompt in (True, False):
                for settings in chats.SETTINGS:
                    context = {
                        "messages": conversation,
                        "add_generation_prompt": prompt,
                        "bos_token": "<s>",
                        "eos_token": "</s>",
                        "tools": None,
                    }
                    yield {"template": template, "context": context | settings, "name": name}
    for expression in cases.EXPRESSIONS:
        for template in ("{{ %s }}", "{%% if %s %%}T{%% else %%}F{%% endif %%}", "{%% set z = %s %%}[{{ z }}]"):
            yield {"template": template % expression, "context": cases.CONTEXT, "name": expression}
    for template in cases.TEMPLATES:
        yield {"template": template, "context": cases.CONTEXT, "name": template}
    rng = random.Random(seed)
    for _ in range(count):
        template = "".join(rng.choices(cases.FRAGMENTS, k=rng.randrange(2, 14)))
        missing = len(re.findall(r"{%[-+]? if", template)) - len(re.findall("endif", template))
        template += "{% endif %}" * max(missing, 0)
        yield {"template": template, "context": cases.CONTEXT, "name": template}
    for _ in range(count):
        template = "{{ " + random_expression(rng, 3) + " }}"
        yield {"template": template, "context": cases.CONTEXT, "name": template}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", type=int, default=2000)
    options = parser.parse_args()
    warnings.simplefilter("ignore", SyntaxWarning)  # of the Python that jinja2 compiles
    environment = make_environment()
    tests = [dict(case, now=NOW) for case in all_cases(options.seed, options.random)]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "cases.jsonl"
        file.write_text("".join(json.dumps(test) + "\n" for test in tests))
        done = subprocess.run([options.probe, str(file)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{options.probe} failed with {done.returncode}: {done.stderr}")
    results = [json.loads(line) for line in done.stdout.split("\n") if line]
    if len(results) != len(tests):
        sys.exit(f"{len(tests)} cases but {len(results)} results")
    wrong = texts = errors = 0
    for test, got in zip(tests, results):
        want = expected(environment, test)
        if test["name"] in REFUSED_BY_US:
            same = "error" in got
        elif test["name"] in ALLOWED_BY_US:
            same = "text" in got
        elif any(reason in got.get("error", "") for reason in WRONG_SLICES):
            same = True
        else:
            same = got.get("text") == want.get("text") and said(want) in got.get("error", "")
        texts += "text" in want
        errors += "error" in want
        if not same:
            wrong += 1
            print(f"{test['template']!r}\n  jinja2 {want!r}\n  ours   {got!r}")
    print(f"{len(tests)} templates ({texts} rendered, {errors} refused), {wrong} differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
