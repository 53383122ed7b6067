// The checks for every client with the API of browsers: `ws`, Node's own, and Chromium's, in a page.
// The same list is in client.py and src/bin/client.rs.

const ROUNDS = 40;
const CLIENTS = 200;
const MEBIBYTE = 1 << 20;

/** Milliseconds within which anything that is waited for must have happened. */
const PATIENCE = 30_000;

const CLOSE_CODE = 4001;
const REASON = '看够了,再见 😀 bye';

const CHINESE = [
  '模型第 41 步,共 100 步:残差 1e-9',
  '𠜎𠜱𡿺𧒽 😀 每个字四个字节',
  'é ß я 字 😀', // of two, three and four bytes
  '进'.repeat(42), // 126 bytes, and so the first length of two bytes
  '度'.repeat(21_846), // 65 538 bytes, and so a length of eight
];

/** Bytes that the hub knows, too: of all values, and other ones for another length. */
function pattern(length) {
  return Uint8Array.from({ length }, (_, i) => (i * 131 + (i >> 8) * 17 + length) & 255);
}

function show(message) {
  const text = typeof message === 'string' ? message : `${message.length} bytes ${message.slice(0, 20)}`;
  return text.length > 120 ? `${text.slice(0, 120)}… (${text.length})` : text;
}

/** Fails unless two messages are the same, of the same kind, to the last character or byte. */
function same(what, found, expected) {
  const equal = typeof found === 'string' || typeof expected === 'string'
    ? found === expected
    : found.length === expected.length && found.every((byte, i) => byte === expected[i]);
  if (!equal) throw new Error(`${what}: got ${show(found)}, not ${show(expected)}`);
}

function fields(what, found, expected) {
  for (const [name, value] of Object.entries(expected)) {
    if (found[name] !== value) {
      throw new Error(`${what}: ${name} is ${found[name]}, not ${value}: ${JSON.stringify(found)}`);
    }
  }
}

function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${PATIENCE / 1000} s`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A connection, from its greeting on. What it is sent is taken from it one by one. */
class Connection {
  #messages = [];
  #taker = null;

  constructor(WebSocket, url) {
    this.socket = new WebSocket(url);
    this.socket.binaryType = 'arraybuffer';
    this.socket.onmessage = ({ data }) => {
      this.#messages.push(typeof data === 'string' ? data : new Uint8Array(data));
      this.#taker?.();
    };
    this.socket.onerror = () => {}; // a close follows
    this.closed = new Promise((resolve) => {
      this.socket.onclose = ({ code, reason, wasClean }) => {
        this.over = { code, reason, clean: wasClean };
        this.#taker?.();
        resolve(this.over);
      };
    });
  }

  static async open(WebSocket, url) {
    const connection = new Connection(WebSocket, url);
    const greeting = await connection.next();
    const found = /^\{"type":1,"body":([1-9]\d*)\}$/.exec(greeting);
    connection.id = Number(found?.[1]);
    if (!Number.isSafeInteger(connection.id)) throw new Error(`the greeting is ${show(greeting)}`);
    return connection;
  }

  send(message) { this.socket.send(message); }
  command(command) { this.send(JSON.stringify(command)); }

  async next() {
    while (this.#messages.length === 0) {
      if (this.over) throw new Error(`closed: ${JSON.stringify(this.over)}`);
      await within('the next message', new Promise((resolve) => { this.#taker = resolve; }));
    }
    return this.#messages.shift();
  }

  async expect(expected) { same('the next message', await this.next(), expected); }
  async answer(expected) { fields('the answer', JSON.parse(await this.next()), expected); }

  /** The hub says what it got, by its length and digest, and sends it back. */
  async returned(content) {
    const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-1', bytes));
    const sha1 = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
    const got = typeof content === 'string' ? 'text' : 'binary';
    await this.answer({ got, bytes: bytes.length, sha1 });
    await this.expect(content);
  }

  async exchange(content) {
    this.send(content);
    await this.returned(content);
  }

  /** Fails unless the connection is closed like this, with no message before that. */
  async ends(expected) {
    fields('the close', await within('the close', this.closed), { clean: true, ...expected });
    if (this.#messages.length > 0) throw new Error(`nobody asked for ${show(this.#messages[0])}`);
  }

  async finish() {
    this.socket.close(1000, 'done');
    await this.ends({ code: 1000 });
  }
}

/** The checks, by name. Each gets `open(url)` and the client's own abilities. */
const checks = {
  async connect({ open }) {
    const client = await open();
    client.command({ do: 'who', id: client.id });
    await client.answer({ who: client.id, known: true });
    await client.finish();
  },

  async addressed({ open }) {
    const [one, other] = [await open(), await open()];
    one.command({ do: 'send', to: one.id, text: 'to one' });
    one.command({ do: 'send', to: other.id, text: 'to the other' });
    one.command({ do: 'broadcast', text: 'to all' });
    await one.expect('to one');
    await other.expect('to the other');
    await one.expect('to all');
    await other.expect('to all');
    await one.finish();
    await other.finish();
  },

  async broadcast({ open }) {
    const clients = [await open(), await open(), await open()];
    for (let i = 0; i < 100; i += 1) clients[i % 3].command({ do: 'broadcast', text: `step ${i}` });
    // One hub, one order; each client's own messages in the order in which it sent them.
    const seen = await Promise.all(clients.map(async (client) => {
      const texts = [];
      while (texts.length < 100) texts.push(await client.next());
      return texts;
    }));
    for (const texts of seen) same('the order', texts.join(), seen[0].join());
    for (let k = 0; k < 3; k += 1) {
      const own = seen[0].filter((text) => Number(text.slice(5)) % 3 === k);
      const sent = Array.from({ length: own.length }, (_, i) => `step ${3 * i + k}`);
      same('the texts', own.join(), sent.join());
    }
    for (const client of clients) await client.finish();
  },

  async binary({ open }) {
    const client = await open();
    for (const length of [0, 1, 125, 126, 127, 256, 65_535, 65_536]) await client.exchange(pattern(length));
    await client.finish();
  },

  async mebibyte({ open }) {
    const client = await open();
    await client.exchange(pattern(MEBIBYTE));
    await client.exchange(`${'进度😀 abc\n'.repeat(69_905)}x`); // 15 bytes each
    await client.finish();
  },

  async chinese({ open }) {
    const client = await open();
    for (const text of CHINESE) await client.exchange(text);
    for (const text of CHINESE) {
      client.command({ do: 'send', to: client.id, text });
      await client.expect(text);
    }
    await client.finish();
  },

  async fragments({ open, fragments }) {
    const client = await open();
    const bytes = pattern(1000);
    fragments(client.socket, bytes, [0, 1, 500]);
    await client.returned(bytes);
    const text = '分成几段的文字 😀';
    fragments(client.socket, text, [1, 4, 24]); // within characters
    await client.returned(text);
    await client.finish();
  },

  async ping({ open, ping }) {
    const client = await open();
    for (const payload of ['', 'ping 7', '在吗', 'x'.repeat(125)]) {
      same('the pong', await within('the pong', ping(client.socket, payload)), payload);
    }
    await client.finish();
  },

  async pinged({ open, pinging, countPings }) {
    const client = await open(pinging);
    const pings = countPings?.(client.socket);
    const { pongs, other_bytes: other, messages } = JSON.parse(await client.next());
    if (!(pongs >= 4) || other !== 0 || messages !== 0) {
      throw new Error(`the hub got ${pongs} pongs, ${other} other bytes, ${messages} messages`);
    }
    if (pings && pings() < pongs) throw new Error(`${pings()} pings and ${pongs} pongs`);
    await client.finish();
  },

  async close({ open }) {
    const [client, witness] = [await open(), await open()];
    witness.command({ do: 'ended', id: client.id });
    client.socket.close(CLOSE_CODE, REASON);
    await client.ends({ code: CLOSE_CODE });
    await witness.answer({ ended: client.id, code: CLOSE_CODE, reason: REASON });
    await witness.finish();
  },

  async closed({ open }) {
    const [client, witness] = [await open(), await open()];
    witness.command({ do: 'ended', id: client.id });
    witness.command({ do: 'send', to: client.id, text: 'the last' });
    witness.command({ do: 'disconnect', id: client.id, reason: REASON });
    await client.expect('the last');
    await client.ends({ code: 1000, reason: REASON });
    await witness.answer({ ended: client.id, how: 'closed by the hub' });
    await witness.finish();
  },

  async too_large({ open }) {
    const [client, witness] = [await open(), await open()];
    witness.command({ do: 'ended', id: client.id });
    client.send(pattern(4 * MEBIBYTE));
    // Chromium calls that clean only if all of the message had left it by then.
    await within('the close', client.closed);
    await client.ends({ code: 1009, clean: client.over.clean });
    await witness.answer({ ended: client.id, code: 1009, reason: client.over.reason });
    await witness.finish();
  },

  async crowd({ open }) {
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => open()));
    const ids = clients.map(({ id }) => id);
    same('the number of ids', String(new Set(ids).size), String(CLIENTS));
    clients[0].command({ do: 'rounds', count: ROUNDS, to: ids });
    await Promise.all(clients.map(async (client) => {
      for (let round = 0; round < ROUNDS; round += 1) {
        await client.expect(round % 2 === 0 ? `第 ${round} 轮,所有人` : pattern(round * 100));
        await client.expect(`第 ${round} 轮,只给 ${client.id}`);
      }
      const own = Array.from({ length: 5 }, (_, i) => `${client.id} 的第 ${i} 条`);
      own.forEach((text) => client.send(text));
      for (const text of own) await client.returned(text);
    }));
    await Promise.all(clients.map((client) => client.finish()));
  },
};

/**
 * Runs them all. `client` has `WebSocket`, the addresses `hub` and `pinging`, `print`, and what goes
 * beyond the API of browsers, if it can that: `fragments`, `ping`, `countPings`.
 */
export async function run({ WebSocket, hub, pinging, print, ...abilities }) {
  const open = (url = hub) => Connection.open(WebSocket, url.replace('http:', 'ws:'));
  for (const [name, check] of Object.entries(checks)) {
    if (['fragments', 'ping'].includes(name) && !abilities[name]) {
      await print(`not offered ${name}: its API has no way to send one`);
      continue;
    }
    try {
      await check({ open, pinging, ...abilities });
      await print(`ok ${name}`);
    } catch (error) {
      await print(`FAILED ${name}: ${error.message}`);
    }
  }
}
