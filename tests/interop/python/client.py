"""A client of the wire `stepcast.v1`, written from docs/protocol.md alone."""

import asyncio
import json
import random
import struct
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

HEADER = struct.Struct(">BIQQH")  # kind, alias, number or stamp, time, length of the key
SAID = struct.Struct(">BI")  # kind, alias


class Feed:
    """What the client has of a feed, or of its mailbox."""

    def __init__(self):
        self.forget()

    def forget(self):
        self.messages = []  # (number, time, payload)
        self.gaps = []  # (from, to, why)
        self.values = {}  # key: (time, payload)
        self.ended = None  # the time of the end
        self.has = {}  # its epoch, the last number, `seq`, and the last stamp, `set`

    def take(self, key, number, at, payload):
        if key is None:
            self.messages.append((number, at, payload))
            self.has["seq"] = number
        else:
            self.values[key] = (at, payload)
            self.has["set"] = number


class Client:
    """Follows feeds at `url`, through any number of connections, until the hub ends it for good."""

    first_wait, longest_wait = 0.5, 20.0  # seconds

    def __init__(self, url, *names):
        self.url = url
        self.who = {}  # id, key and epoch, from the hub's last `hello`
        self.mail = Feed()
        self.feeds = {name: Feed() for name in names}
        self.attempts = 0  # since a connection that lasted

    async def run(self):
        """Returns the code and the reason of the end."""
        while True:
            self.greeted = None
            bye = await self.connection()
            code = bye["code"]
            if self.greeted and time.monotonic() - self.greeted >= self.longest_wait:
                self.attempts = 0
            if 4500 <= code <= 4999 or (code in (403, 404) and not self.who):
                return code, bye.get("reason", "")
            if "retry" in bye:
                await asyncio.sleep(bye["retry"] / 1000)
            else:
                bound = min(self.longest_wait, self.first_wait * 2**self.attempts)
                self.attempts += 1
                await asyncio.sleep(random.uniform(0, bound))

    async def connection(self):
        """Returns the hub's `bye`, or one made of what ended the connection."""
        try:
            ws = await connect(self.url, subprotocols=["stepcast.v1"], max_size=None,
                               open_timeout=5, ping_interval=None)  # the wire has its own
        except InvalidStatus as refused:
            return {"code": refused.response.status_code, "reason": "refused by HTTP"}
        except (OSError, TimeoutError, InvalidHandshake, EOFError):
            return {"code": 1006}
        self.ws = ws
        acks = asyncio.create_task(self.send_acks(ws))
        try:
            return await self.talk(ws)
        except ConnectionClosed as closed:
            frame = closed.rcvd
            return {"code": frame.code, "reason": frame.reason} if frame else {"code": 1006}
        except TimeoutError:
            return {"code": 1006}
        finally:
            acks.cancel()
            ws.transport.abort()  # at a Close with 1000 the hub would forget this client

    async def talk(self, ws):
        self.followed = {0: self.mail}  # by alias, which count for one connection
        self.silence = 5  # seconds; `hello` says more
        self.asked = time.time()
        feeds = {name: feed.has for name, feed in self.feeds.items()}
        await ws.send(json.dumps({"hello": {**self.who, "mail": self.mail.has, "feeds": feeds}}))
        while True:
            async with asyncio.timeout(self.silence):
                frame = await ws.recv()
            if isinstance(frame, bytes):
                self.binary(frame)
                continue
            for line in frame.split("\n"):
                for what, body in json.loads(line).items():
                    if what == "bye":
                        return body
                    if what == "ping":
                        await ws.send(json.dumps({"pong": body}))
                    elif hasattr(self, "on_" + what):
                        getattr(self, "on_" + what)(body)

    async def say(self, message, name=None):
        """Sends text, bytes or JSON to the program, about the feed of this name."""
        feed = self.feeds.get(name)
        to = next((alias for alias, followed in self.followed.items() if followed is feed), 0)
        if isinstance(message, bytes):
            frame = SAID.pack(1, to) + message
        else:
            kind = "text" if isinstance(message, str) else "json"
            frame = json.dumps({kind: message, "to": to})
        # Half a second's worth at once: the hub lets two through.
        counts = 1 + len(frame) / max(4096, self.limits["message"] / 16)
        self.free = max(self.free, time.monotonic()) + counts / self.limits["rate"]
        await asyncio.sleep(self.free - time.monotonic() - 0.5)
        await self.ws.send(frame)

    async def send_acks(self, ws):
        acked = None
        while True:
            await asyncio.sleep(1)
            if (seq := self.mail.has.get("seq")) != acked:
                acked = seq
                await ws.send(json.dumps({"ack": {"seq": seq}}))

    def on_hello(self, hello):
        if not hello["resumed"]:
            self.mail.forget()
        self.who = {member: hello[member] for member in ("id", "key", "epoch")}
        self.silence = hello["ping"] + 10
        self.limits, self.free = hello["limits"], 0  # what it may say, and when it may say more
        self.greeted = time.monotonic()
        middle = (self.asked + time.time()) / 2
        self.zero = middle - hello["now"] / 1000  # the time 0 of the hub, by this clock

    def on_feed(self, said):
        feed = self.feeds.setdefault(said["name"], Feed())
        if said["how"] == "snapshot":
            feed.forget()
        feed.has.update(epoch=said["epoch"], seq=said["seq"])
        # A feed that was made anew has another alias.
        self.followed = {alias: it for alias, it in self.followed.items() if it is not feed}
        self.followed[said["alias"]] = feed

    def on_unfollowed(self, said):
        gone = self.followed.pop(said["alias"], None)
        self.feeds = {name: feed for name, feed in self.feeds.items() if feed is not gone}

    def on_text(self, line):
        alias, number, at, payload, *key = line
        self.followed[alias].take(key[0] if key else None, number, at, payload)

    on_json = on_text

    def binary(self, frame):
        kind, alias, number, at, length = HEADER.unpack_from(frame)
        key = frame[HEADER.size : HEADER.size + length].decode() if kind == 2 else None
        if kind in (1, 2):
            self.followed[alias].take(key, number, at, frame[HEADER.size + length :])

    def on_removed(self, line):
        alias, stamp, _, key = line
        self.followed[alias].values.pop(key, None)
        self.followed[alias].has["set"] = stamp

    def on_ended(self, line):
        alias, stamp, self.followed[alias].ended = line
        self.followed[alias].has["set"] = stamp

    def on_gap(self, gap):
        feed = self.followed[gap["alias"]]
        feed.gaps.append((gap["from"], gap["to"], gap["why"]))
        feed.has["seq"] = gap["to"]
