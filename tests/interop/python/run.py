"""Has the client of client.py follow a run through three cuts and two refusals: run.py HUB"""

import asyncio
import random
import sys
import time
from urllib.parse import urlsplit

from client import Client

DEADLINE = 20  # seconds; it takes 6
HEAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Stands between the client and the hub."""

    def __init__(self, hub):
        self.hub = hub
        self.refuses = False
        self.refused = 0
        self.cut = None  # the next frame from the hub is cut: "before" it, or "inside" it
        self.held = []  # connections of which the hub is not told that they are cut
        self.pumps = set()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def serve(self, reader, writer):
        if self.refuses:
            self.refused += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD)
            writer.close()
            return
        from_hub, to_hub = await asyncio.open_connection(*self.hub)
        up = asyncio.create_task(self.pump_up(reader, to_hub))
        self.pumps.add(up)
        try:
            writer.write(await from_hub.readuntil(b"\r\n\r\n"))
            while True:
                head, payload = await read_frame(from_hub)
                if self.cut:
                    break
                writer.write(head + payload)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            to_hub.close()
            writer.close()
            return
        if self.cut == "inside":
            writer.write(head + payload[: len(payload) // 2])
            writer.close()  # after these bytes
            self.held.append(to_hub)
        else:
            writer.transport.abort()
            to_hub.transport.abort()
        self.cut = None

    async def pump_up(self, reader, to_hub):
        while data := await reader.read(1 << 16):
            to_hub.write(data)


async def read_frame(reader):
    """Reads a frame from the hub: its header, and its payload."""
    head = await reader.readexactly(2)
    if more := {126: 2, 127: 8}.get(head[1], 0):
        head += await reader.readexactly(more)
    return head, await reader.readexactly(int.from_bytes(head[2:]) if more else head[1])


def numbered(step):
    """The message of a step, as the program pushes it."""
    return [str(step), {"step": step}, b"%02000d" % step][step % 3]


def check_log(feed, payloads):
    """Each message came once and in order, or a gap told of it."""
    told = {number for first, last, _ in feed.gaps for number in range(first, last + 1)}
    numbers = [number for number, _, _ in feed.messages]
    first = min([*numbers, *told])
    assert numbers == sorted(set(numbers)), "a message came twice, or not in order"
    assert not told & set(numbers), "a message came that a gap said would not"
    assert len(told) + len(numbers) == len(payloads), "messages are missing, and no gap told of it"
    for number, _, payload in feed.messages:
        assert payload == payloads[number - first], (number, payload)
    times = [at for _, at, _ in feed.messages]
    assert times == sorted(times), "times go back"
    return len(numbers), len(told)


async def run(hub):
    url = (await hub.stdout.readline()).decode().strip()
    address = urlsplit(url)
    proxy = Proxy((address.hostname, address.port))
    client = Client(await proxy.start(), "", "run")
    client.first_wait = 0.1
    begun = time.time()
    ended = asyncio.create_task(client.run())
    progress = [0]
    reading = asyncio.create_task(read_progress(hub, progress))

    async def until(condition):
        while not condition():
            assert not ended.done(), f"the client ended: {ended.result()}"
            assert hub.returncode is None, "the hub ended"
            await asyncio.sleep(0.005)

    messages = lambda: len(client.feeds["run"].messages)
    ids = set()
    cuts = ["before", "inside", "the last"]
    for cut in cuts:
        wanted = messages() + random.randint(100, 250)
        await until(lambda: messages() >= wanted)
        ids.add(client.who["id"])
        proxy.cut, proxy.refuses = cut, cut == cuts[-1]
        await until(lambda: not proxy.cut)
    wanted = progress[0] + 500  # more than the hub keeps
    await until(lambda: progress[0] >= wanted and proxy.refused)
    proxy.refuses = False
    wanted = messages() + 100
    await until(lambda: messages() >= wanted)
    for _ in range(300):  # of 100 a second
        await client.say("more", "run")
    await client.say("finish", "run")
    steps = await reading
    pushed = [numbered(step) for step in range(1, steps + 1)]
    ids.add(client.who["id"])
    assert len(ids) == 1, f"not the same client: {ids}"
    mail = [*pushed[2::3], "the last"]
    everyone, feed, told = (client.feeds[name] for name in ("", "run", "told"))
    values = lambda feed: {key: payload for key, (_, payload) in feed.values.items()}
    # The wire promises no order between feeds, nor between messages and values.
    await until(lambda: feed.ended and values(told) == {"step": str(steps)}
                and values(client.mail) == {"step": mail[-2]}
                and everyone.messages[-1][2] == pushed[-1]
                and client.mail.messages[-1][2] == mail[-1])

    check_log(everyone, pushed)
    came, gone = check_log(feed, [*pushed, "converged"])
    assert gone, "no gap, although the client was away for long"
    assert [payload for _, _, payload in client.mail.messages] == mail, "mail twice, or not at all"
    assert [number for number, _, _ in client.mail.messages] == list(range(1, len(mail) + 1))

    left = {str(step % 7): numbered(step) for step in range(steps - 3, steps + 1)}
    assert values(feed) == {"step": str(steps), **left}, f"values of {set(values(feed))}"
    assert everyone.ended is None, "everyone's feed has not ended"
    assert begun - 1 < client.zero + feed.messages[0][1] / 1000 < time.time() + 1

    other = await Client(f"{client.url}/no-such-path").run()
    assert other[0] == 4505, other

    await client.say(b"end")
    end = await ended
    assert end == (4503, "Converged."), end
    assert await hub.wait() == 0
    print(f"{steps} steps: {came} messages, {gone} in gaps, {len(mail)} of mail, "
          f"{proxy.refused} refusals, {time.time() - begun:.1f} s")


async def read_progress(hub, progress):
    """Returns how many steps there were in the end."""
    async for line in hub.stdout:
        progress[0] = int(line.split()[0])
        if b"in all" in line:
            return progress[0]


async def main():
    pipe = asyncio.subprocess.PIPE
    hub = await asyncio.create_subprocess_exec(sys.argv[1], stdin=pipe, stdout=pipe)
    try:
        async with asyncio.timeout(DEADLINE):
            await run(hub)
    finally:
        if hub.returncode is None:
            hub.kill()
            await hub.wait()


asyncio.run(main())
