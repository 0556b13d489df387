#!/usr/bin/env python3
"""Runs end-to-end tests: data files that say commands and what they must do.

    run.py --graft build/graft [--keep] FILE.test …

A file's lines, in order; each test runs in a new, empty folder that is removed at its end (--keep keeps it):

    # text            a comment; empty lines mean nothing
    needs: PATH       the test is skipped, with a message and exit code 77, where PATH is missing; $VARIABLES are put in
    file NAME         writes a file: the lines that follow, indented by four spaces, without them; $VARIABLES stay as they are
    $ COMMAND         runs a line of bash; `graft` is the program under test
    exit N            its exit code (otherwise 0)
    out: TEXT         its whole standard output: all `out:` lines in order, nothing else
    out~ REGEX        some line of standard output matches (search)
    err: TEXT         the same for standard error
    err~ REGEX
    error~ REGEX      the form of every error: nothing on standard output; the last line of standard error begins with
                      "graft: [" and the REGEX matches it; before it nothing but warnings (progress: use --quiet)
    none: PATH …      no such file or folder afterwards
    holds: DIR NAME … exactly these names lie in DIR afterwards, hidden ones too (nothing half-written)

Variables: REPO (source tree), TMP (the test's folder), SHARED (reference material; GRAFT_SHARED_DIR, else ../shared beside the
tree), DATA (unpacked data bundle; GRAFT_SHARED, else ~/.cache/graft-shared), PYTHON. `make_tiny` is
tests/reference/make_tiny.py. Exit codes: 0 passed, 1 failed, 77 skipped.
"""
import argparse
import os
import pathlib
import re
import shutil
import string
import subprocess
import sys
import tempfile

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
SKIPPED = 77
TIMEOUT = 300


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


class Step:
    """A command and what is expected of it."""

    def __init__(self, command, line):
        self.command, self.line = command, line
        self.exit = 0
        self.whole = {"out": None, "err": None}
        self.checks = []  # (kind, text, line)


def parse(path):
    """→ list of ("needs", path) | ("file", name, text) | ("step", Step), in order."""
    items, step, content = [], None, None
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if content is not None and (line.startswith("    ") or (not line and content)):
            content.append(line[4:])
            continue
        content = None
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("needs: "):
            items.append(("needs", line[7:].strip()))
        elif line.startswith("file "):
            content = []
            items.append(("file", line[5:].strip(), content))
        elif line.startswith("$ "):
            step = Step(line[2:], number)
            items.append(("step", step))
        elif step is None:
            raise Failed(f"{path}:{number}: an expectation before any command: {line}")
        elif match := re.fullmatch(r"exit (\d+)", line):
            step.exit = int(match[1])
        elif match := re.fullmatch(r"(out|err):(?: (.*))?", line):
            step.whole[match[1]] = (step.whole[match[1]] or []) + [match[2] or ""]
        elif match := re.fullmatch(r"(out~|err~|error~|none:|holds:) (.*)", line):
            step.checks.append((match[1], match[2], number))
        else:
            raise Failed(f"{path}:{number}: no line of this format: {line}")
    if step is None:
        raise Failed(f"{path}: no command")
    return items


def check(kind, text, result, folder):
    """None, or what is wrong."""
    if kind == "none:":
        found = [name for name in text.split() if os.path.lexists(folder / name)]
        return f"is there: {', '.join(found)}" if found else None
    if kind == "holds:":
        where, *names = text.split()
        there = sorted(os.listdir(folder / where)) if (folder / where).is_dir() else None
        return None if there == sorted(names) else f"{where} holds {there}"
    if kind == "error~":
        lines = result.stderr.splitlines()
        if result.stdout:
            return "something on standard output"
        if not lines or not lines[-1].startswith("graft: ["):
            return "standard error does not end with a line 'graft: [where] …'"
        if any(not line.startswith("warning: ") for line in lines[:-1]):
            return "more than one line on standard error"
        return None if re.search(text, lines[-1]) else "the error is another"
    lines = (result.stdout if kind == "out~" else result.stderr).splitlines()
    return None if any(re.search(text, line) for line in lines) else "no line matches"


def run_step(step, folder, env, path):
    try:
        result = subprocess.run(["bash", "-c", step.command], cwd=folder, env=env, capture_output=True, text=True,
                                errors="backslashreplace", timeout=TIMEOUT, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise Failed(f"{path}:{step.line}: $ {step.command}\n  still running after {TIMEOUT} s")
    problems = []
    if result.returncode != step.exit:
        problems.append(f"exit code {result.returncode}, expected {step.exit}")
    for name, got in (("out", result.stdout), ("err", result.stderr)):
        if step.whole[name] is not None and got != "".join(line + "\n" for line in step.whole[name]):
            problems.append(f"{name}: expected exactly {step.whole[name]}")
    for kind, text, line in step.checks:
        wrong = check(kind, text, result, folder)
        if wrong:
            problems.append(f"line {line}: {kind} {text}: {wrong}")
    if problems:
        raise Failed(f"{path}:{step.line}: $ {step.command}\n" + "".join(f"  {p}\n" for p in problems) +
                     f"--- standard output\n{result.stdout}--- standard error\n{result.stderr}---")


def environment(graft, folder):
    env = dict(os.environ, REPO=str(REPO), TMP=str(folder), PYTHON=sys.executable)
    env["SHARED"] = env.get("GRAFT_SHARED_DIR", str(REPO.parent / "shared"))
    env["DATA"] = env.get("GRAFT_SHARED", os.path.expanduser("~/.cache/graft-shared"))
    env.setdefault("OMP_NUM_THREADS", "1")
    programs = pathlib.Path(tempfile.mkdtemp(prefix="graft-cli-bin-"))
    (programs / "graft").symlink_to(graft.resolve())
    (programs / "make_tiny").symlink_to(REPO / "tests/reference/make_tiny.py")
    env["PATH"] = f"{programs}:{env['PATH']}"
    return env, programs


def run_test(path, graft, keep):
    items = parse(path)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="graft-cli-"))
    env, programs = environment(graft, folder)
    try:
        for item in items:
            if item[0] == "needs":
                needed = string.Template(item[1]).substitute(env)
                if not os.path.exists(REPO / needed):
                    raise Skipped(f"{path.name}: skipped, {needed} is not on this machine")
            elif item[0] == "file":
                target = folder / item[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                lines = item[2]
                while lines and not lines[-1]:
                    lines.pop()
                target.write_text("".join(line + "\n" for line in lines))
            else:
                run_step(item[1], folder, env, path)
    finally:
        shutil.rmtree(programs)
        if keep:
            print(f"{path.name}: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description="runs end-to-end tests")
    parser.add_argument("--graft", type=pathlib.Path, required=True, help="the program under test")
    parser.add_argument("--keep", action="store_true", help="keep the tests' folders")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    failed = skipped = 0
    for path in options.files:
        try:
            run_test(path, options.graft, options.keep)
        except Skipped as reason:
            print(reason)
            skipped += 1
        except Failed as reason:
            print(reason)
            failed += 1
    return 1 if failed else SKIPPED if skipped == len(options.files) else 0


if __name__ == "__main__":
    sys.exit(main())
