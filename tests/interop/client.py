"""The client `websockets`: client.py HUB PINGING

The same list of checks is in checks.mjs and src/bin/client.rs.
"""

import asyncio
import hashlib
import json
import re
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

ROUNDS = 40
CLIENTS = 200
MEBIBYTE = 1 << 20

# Seconds within which anything that is waited for must have happened.
PATIENCE = 30

CLOSE_CODE = 4001
REASON = "看够了,再见 😀 bye"

CHINESE = [
    "模型第 41 步,共 100 步:残差 1e-9",
    "𠜎𠜱𡿺𧒽 😀 每个字四个字节",
    "é ß я 字 😀",  # of two, three and four bytes
    "进" * 42,  # 126 bytes, and so the first length of two bytes
    "度" * 21_846,  # 65 538 bytes, and so a length of eight
]


def pattern(length):
    """Bytes that the hub knows, too: of all values, and other ones for another length."""
    return bytes((i * 131 + (i >> 8) * 17 + length) & 255 for i in range(length))


def same(what, found, expected):
    """Fails unless two messages are the same, of the same kind, to the last character or byte."""
    if type(found) is not type(expected) or found != expected:
        raise AssertionError(f"{what}: got {found!r:.120}, not {expected!r:.120}")


def fields(what, found, expected):
    for name, value in expected.items():
        same(f"{what}, {name} of {found}", found[name], value)


class Connection:
    """A connection, from its greeting on. What it is sent is taken from it one by one."""

    @classmethod
    async def open(cls, url):
        self = cls()
        # Neither a proxy of this machine nor pings of its own.
        self.socket = await connect(url, proxy=None, ping_interval=None, open_timeout=PATIENCE)
        greeting = await self.next()
        found = re.fullmatch(r'\{"type":1,"body":([1-9]\d*)\}', greeting)
        if not found:
            raise AssertionError(f"the greeting is {greeting!r}")
        self.id = int(found[1])
        return self

    async def send(self, message, **options):
        await asyncio.wait_for(self.socket.send(message, **options), PATIENCE)

    async def command(self, do, **rest):
        await self.send(json.dumps({"do": do, **rest}, separators=(",", ":")))

    async def next(self):
        return await asyncio.wait_for(self.socket.recv(), PATIENCE)

    async def expect(self, expected):
        same("the next message", await self.next(), expected)

    async def answer(self, **expected):
        fields("the answer", json.loads(await self.next()), expected)

    async def returned(self, content):
        """The hub says what it got, by its length and digest, and sends it back."""
        got = "text" if isinstance(content, str) else "binary"
        data = content.encode() if isinstance(content, str) else content
        await self.answer(got=got, bytes=len(data), sha1=hashlib.sha1(data).hexdigest())
        await self.expect(content)

    async def exchange(self, content):
        await self.send(content)
        await self.returned(content)

    async def ends(self, code, reason=None):
        """Fails unless both sides have closed, the hub like this, with no message before that."""
        try:
            message = await self.next()
        except ConnectionClosed as closed:
            if not closed.rcvd or not closed.sent:
                raise AssertionError(f"the close was not clean: {closed}") from closed
            same("the code", int(closed.rcvd.code), code)
            same("the reason", closed.rcvd.reason, closed.rcvd.reason if reason is None else reason)
            return closed.rcvd.reason
        raise AssertionError(f"nobody asked for {message!r:.120}")

    async def finish(self, code=1000, reason="done"):
        await asyncio.wait_for(self.socket.close(code, reason), PATIENCE)
        await self.ends(code)


async def check_connect(hub, _):
    client = await Connection.open(hub)
    await client.command("who", id=client.id)
    await client.answer(who=client.id, known=True)
    await client.finish()


async def check_addressed(hub, _):
    one, other = await Connection.open(hub), await Connection.open(hub)
    await one.command("send", to=one.id, text="to one")
    await one.command("send", to=other.id, text="to the other")
    await one.command("broadcast", text="to all")
    await one.expect("to one")
    await other.expect("to the other")
    await one.expect("to all")
    await other.expect("to all")
    await one.finish()
    await other.finish()


async def check_broadcast(hub, _):
    clients = [await Connection.open(hub) for _ in range(3)]
    for i in range(100):
        await clients[i % 3].command("broadcast", text=f"step {i}")
    # One hub, one order; each client's own messages in the order in which it sent them.
    seen = [[await client.next() for _ in range(100)] for client in clients]
    for texts in seen:
        same("the order", texts, seen[0])
    for k in range(3):
        own = [text for text in seen[0] if int(text[5:]) % 3 == k]
        same("the texts", own, [f"step {i}" for i in range(k, 100, 3)])
    for client in clients:
        await client.finish()


async def check_binary(hub, _):
    client = await Connection.open(hub)
    for length in [0, 1, 125, 126, 127, 256, 65_535, 65_536]:
        await client.exchange(pattern(length))
    await client.finish()


async def check_mebibyte(hub, _):
    client = await Connection.open(hub)
    await client.exchange(pattern(MEBIBYTE))
    await client.exchange("进度😀 abc\n" * 69_905 + "x")  # 15 bytes each
    await client.finish()


async def check_chinese(hub, _):
    client = await Connection.open(hub)
    for text in CHINESE:
        await client.exchange(text)
    for text in CHINESE:
        await client.command("send", to=client.id, text=text)
        await client.expect(text)
    await client.finish()


async def check_fragments(hub, _):
    client = await Connection.open(hub)
    content = pattern(1000)
    await client.send([content[:0], content[:1], content[1:500], content[500:]])
    await client.returned(content)
    text = "分成几段的文字 😀"
    content = text.encode()
    # Within characters.
    await client.send([content[:1], content[1:4], content[4:24], content[24:]], text=True)
    await client.returned(text)
    await client.finish()


async def check_ping(hub, _):
    client = await Connection.open(hub)
    for payload in ["", "ping 7", "在吗", "x" * 125]:
        # Resolved by the pong with this payload, and by no other.
        pong = await client.socket.ping(payload)
        await asyncio.wait_for(pong, PATIENCE)
    await client.finish()


async def check_pinged(_, pinging):
    client = await Connection.open(pinging)
    counted = json.loads(await client.next())
    if counted["pongs"] < 4 or counted["other_bytes"] or counted["messages"]:
        raise AssertionError(f"the hub got {counted}")
    await client.finish()


async def check_close(hub, _):
    client, witness = await Connection.open(hub), await Connection.open(hub)
    await witness.command("ended", id=client.id)
    await client.finish(CLOSE_CODE, REASON)
    await witness.answer(ended=client.id, code=CLOSE_CODE, reason=REASON)
    await witness.finish()


async def check_closed(hub, _):
    client, witness = await Connection.open(hub), await Connection.open(hub)
    await witness.command("ended", id=client.id)
    await witness.command("send", to=client.id, text="the last")
    await witness.command("disconnect", id=client.id, reason=REASON)
    await client.expect("the last")
    await client.ends(1000, REASON)
    await witness.answer(ended=client.id, how="closed by the hub")
    await witness.finish()


async def check_too_large(hub, _):
    client, witness = await Connection.open(hub), await Connection.open(hub)
    await witness.command("ended", id=client.id)
    try:
        await client.send(pattern(4 * MEBIBYTE))
    except ConnectionClosed:
        pass  # before all of it was written
    reason = await client.ends(1009)
    await witness.answer(ended=client.id, code=1009, reason=reason)
    await witness.finish()


async def check_crowd(hub, _):
    clients = await asyncio.gather(*(Connection.open(hub) for _ in range(CLIENTS)))
    ids = [client.id for client in clients]
    same("the number of ids", len(set(ids)), CLIENTS)
    await clients[0].command("rounds", count=ROUNDS, to=ids)

    async def one(client):
        for i in range(ROUNDS):
            await client.expect(pattern(i * 100) if i % 2 else f"第 {i} 轮,所有人")
            await client.expect(f"第 {i} 轮,只给 {client.id}")
        own = [f"{client.id} 的第 {i} 条" for i in range(5)]
        for text in own:
            await client.send(text)
        for text in own:
            await client.returned(text)

    await asyncio.gather(*(one(client) for client in clients))
    await asyncio.gather(*(client.finish() for client in clients))


async def main(hub, pinging):
    checks = [(name[6:], do) for name, do in globals().items() if name.startswith("check_")]
    for name, check in checks:
        try:
            await check(hub.replace("http:", "ws:"), pinging.replace("http:", "ws:"))
            print(f"ok {name}", flush=True)
        except Exception as error:
            print(f"FAILED {name}: {type(error).__name__} {error}", flush=True)


asyncio.run(main(*sys.argv[1:3]))
