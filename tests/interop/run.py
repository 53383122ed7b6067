"""Runs each client against a hub of its own and judges what it says: run.py BINARIES

Every client has to say of every check, once, that it is ok, or that the client does not offer it
where that is known here. Silence is a failure, and so is a hub that does not end well.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

CHECKS = ["connect", "addressed", "broadcast", "binary", "mebibyte", "chinese", "fragments", "ping",
          "pinged", "close", "closed", "too_large", "crowd"]

binaries = os.path.abspath(sys.argv[1])
CLIENTS = {
    "websockets": [sys.executable, "client.py"],
    "ws": ["node", "ws.mjs"],
    "node": ["node", "--experimental-websocket", "--no-warnings", "node.mjs"],
    "chromium": ["node", "chromium.mjs"],
    "tungstenite": [f"{binaries}/client"],
}
# A browser answers pings and puts fragments together, but its API sends neither.
NOT_OFFERED = {(client, check) for client in ["node", "chromium"] for check in ["fragments", "ping"]}

# Seconds for one client; it takes 3 to 13.
DEADLINE = 120


def start(command):
    """Starts a program in a session of its own, so that it can be ended with its children."""
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            encoding="utf-8", start_new_session=True)


def stop(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def run(name, command):
    """Returns what a client says of each check, and what else went wrong."""
    said, wrong = {}, []
    hub = start([f"{binaries}/hub"])
    timer = threading.Timer(DEADLINE, stop, [hub])
    timer.start()  # a client without its hub ends, too
    try:
        addresses = json.loads(hub.stdout.readline())
        client = start([*command, addresses["hub"], addresses["pinging"]])
        other_timer = threading.Timer(DEADLINE, stop, [client])
        other_timer.start()
        try:
            for line in client.stdout:
                print(f"{name}: {line}", end="", flush=True)
                verdict, _, check = line.strip().partition(" ")
                if verdict == "not":
                    verdict, check = "not offered", check.removeprefix("offered ")
                check = check.partition(":")[0]
                if check in said:
                    wrong.append(f"{check} was said twice")
                said[check] = verdict
            if client.wait() != 0:
                wrong.append(f"the client ended with {client.returncode}")
        finally:
            other_timer.cancel()
            stop(client)
        hub.stdin.close()  # its sign to end
        print(f"{name}: hub: {hub.stdout.read()}", end="", flush=True)
        if hub.wait() != 0:
            wrong.append(f"the hub ended with {hub.returncode}")
    except ValueError as error:
        wrong.append(f"the hub said no address: {error}")
    finally:
        timer.cancel()
        stop(hub)
    return said, wrong


os.chdir(os.path.dirname(os.path.abspath(__file__)))
table, failures = {}, []
for name, command in CLIENTS.items():
    begun = time.monotonic()
    table[name], wrong = run(name, command)
    print(f"{name}: {time.monotonic() - begun:.1f} s", flush=True)
    for check in CHECKS:
        verdict = table[name].setdefault(check, "missing")
        if verdict != ("not offered" if (name, check) in NOT_OFFERED else "ok"):
            wrong.append(f"{check}: {verdict}")
    wrong += [f"{check} is not a check" for check in table[name] if check not in CHECKS]
    failures += [f"{name}: {what}" for what in wrong]

print("\n" + " " * 11 + "".join(f"{name:13}" for name in CLIENTS))
for check in CHECKS:
    print(f"{check:11}" + "".join(f"{table[name][check]:13}" for name in CLIENTS))
print("\n".join(failures), end="\n" if failures else "")
sys.exit(1 if failures else 0)
