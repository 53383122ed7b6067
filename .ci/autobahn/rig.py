"""What both Autobahn roles share: which cases, how wstest is run, and the verdict.

wstest exits with 0 whatever the cases say, also when nothing listened, so that only the report
counts: every case by name, an exact number of them.
"""

import collections
import json
import os
import shutil
import socket
import subprocess
import sys
import time

# Groups 1 to 7, 9 and 10. Groups 12 and 13 are about compression, which is not offered.
CASES = {"cases": ["*"], "exclude-cases": ["12.*", "13.*"], "exclude-agent-cases": {}}
NUMBER_OF_CASES = 301
# These three only record what a peer does where RFC 6455 leaves it free.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
# The whole suite takes some 20 seconds; a filter that matches nothing hangs for ever.
DEADLINE = 600

REPORTS = os.path.abspath("target/autobahn")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def empty_dir(name):
    path = os.path.join(REPORTS, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def wait_for_listener(port, process, what):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{what} ended with {process.returncode} before it listened")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"{what} does not listen on 127.0.0.1:{port}")


def start(command, log, cwd=None):
    """Starts a program in a process group of its own, with its output in a file."""
    env = dict(os.environ, PYTHONWARNINGS="ignore", PYTHONUNBUFFERED="1")
    with open(log, "wb") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                stderr=subprocess.STDOUT, cwd=cwd, env=env)


def finish(process, what, log):
    """Waits for a program's own end, which has to be a good one."""
    try:
        code = process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        sys.exit(f"{what} did not end within {DEADLINE} s:\n{tail(log)}")
    if code != 0:
        sys.exit(f"{what} ended with {code}:\n{tail(log)}")


def stop(process):
    process.kill()
    process.wait()


def tail(log):
    with open(log, errors="replace") as text:
        return "".join(text.readlines()[-20:])


def judge(directory, agent):
    """Prints the verdict; returns whether the agent passed."""
    try:
        with open(os.path.join(directory, "index.json")) as file:
            index = json.load(file)
    except (OSError, ValueError) as error:
        print(f"no report: {error}")
        return False
    if set(index) != {agent}:
        print(f"the report is about {sorted(index)}, not about {agent}")
        return False
    cases = index[agent]
    failures = []
    for name in sorted(cases, key=lambda name: [int(part) for part in name.split(".")]):
        behavior, close = cases[name]["behavior"], cases[name]["behaviorClose"]
        allowed = {"OK", "INFORMATIONAL"} if name in INFORMATIONAL else {"OK"}
        if behavior not in allowed or close not in {"OK", "INFORMATIONAL"}:
            failures.append(f"  {name}: {behavior}, close {close}")
    if len(cases) != NUMBER_OF_CASES:
        failures.append(f"  {len(cases)} cases were run, not {NUMBER_OF_CASES}")
    count = collections.Counter(case["behavior"] for case in cases.values())
    closes = collections.Counter(case["behaviorClose"] for case in cases.values())
    words = lambda counter: ", ".join(f"{n} {word}" for word, n in sorted(counter.items()))
    print(f"{agent}: {len(cases)} cases: {words(count)}; close: {words(closes)}")
    print("\n".join(failures), end="\n" if failures else "")
    return not failures
