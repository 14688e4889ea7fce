// The payload (gzipped JSON) and the examples (gzipped binary blocks), in the page or fetched from `tokensieve serve`.

const PROMPT = 255;
const KINDS = { u8: 1, u16: 2, u24: 3, f24: 3, f32: 4 };

async function unzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

async function readPayload() {
  const bytes = await unzip(fromBase64(document.getElementById("payload").textContent));
  return JSON.parse(new TextDecoder().decode(bytes));
}

// Reassembles a column from its byte planes.
function readColumn(bytes, kind, count) {
  if (kind === "text") return new TextDecoder().decode(bytes);
  const planes = KINDS[kind];
  if (planes === 1) return bytes;
  const words = new Uint32Array(count);
  const float = kind.startsWith("f");
  for (let plane = 0; plane < planes; plane++) {
    const shift = 8 * (plane + (float ? 4 - planes : 0));
    const from = plane * count;
    for (let i = 0; i < count; i++) words[i] |= bytes[from + i] << shift;
  }
  return float ? new Float32Array(words.buffer) : words;
}

function readBlock(bytes) {
  const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  const columns = new Map();
  let at = 4 + size;
  for (const [name, kind, count] of header.columns) {
    const length = kind === "text" ? count : count * KINDS[kind];
    columns.set(name, readColumn(bytes.subarray(at, at + length), kind, count));
    at += length;
  }
  return { header, columns, examples: cutExamples(header, columns) };
}

// One object per example, with views of the block's columns.
function cutExamples(header, columns) {
  const chars = columns.get("piece_chars"), spans = columns.get("piece_tokens");
  const special = columns.get("piece_special"), text = columns.get("text");
  const levels = header.columns.map(([name]) => name).find((name) => name.startsWith("level:")); // of any arm: all have the same prompts
  let token = 0, piece = 0, char = 0;
  return header.tokens.map((size, number) => {
    const pieces = [];
    let start = 0;
    for (const end = piece + header.pieces[number]; piece < end; piece++) {
      pieces.push({
        start, stop: start + spans[piece], special: special[piece] === 1, text: text.slice(char, char + chars[piece]),
      });
      start += spans[piece];
      char += chars[piece];
    }
    const from = token;
    token += size;
    const column = (name) => columns.get(name)?.subarray(from, from + size);
    return { size, pieces, column, levels };
  });
}

class Store {
  constructor(payload) {
    this.payload = payload;
    this.starts = [0];
    for (const count of payload.blocks) this.starts.push(this.starts.at(-1) + count);
    this.cache = new Map();
  }

  async block(number) {
    if (!this.cache.has(number)) {
      if (this.cache.size >= 64) this.cache.delete(this.cache.keys().next().value);
      this.cache.set(number, this.load(number).then(unzip).then(readBlock));
    }
    return this.cache.get(number);
  }

  async load(number) {
    if (!this.payload.remote) return fromBase64(document.getElementById(`block-${number}`).textContent);
    const response = await fetch(`blocks/${number}`);
    if (!response.ok) throw new Error(`block ${number}: ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  }

  async example(place) {
    const number = d3.bisectRight(this.starts, place) - 1;
    const block = await this.block(number);
    return block.examples[place - this.starts[number]];
  }

  // Yields positions of the examples whose text contains the query, ignoring white space and case, as they are found.
  async *search(query, signal) {
    const wanted = plainText(query);
    if (!this.payload.remote) {
      yield* this.where((example) => {
        example.plain ??= plainText(example.pieces.map((piece) => piece.text).join(""));
        return example.plain.includes(wanted);
      });
      return;
    }
    for (let part = 0; part !== null;) {
      const found = await this.ask("search", { q: wanted, part }, signal);
      yield found.places;
      part = found.next;
    }
  }

  // Positions of the examples that have a hit.
  async withHits(hits) {
    if (this.payload.remote) return this.ask("hits", { column: hits.column, low: hits.low, high: hits.high });
    const found = [];
    for await (const places of this.where((example) => d3.range(example.size).some((token) => isHit(example, token, hits)))) found.push(...places);
    return found;
  }

  async ask(what, query, signal) {
    const response = await fetch(`${what}?${new URLSearchParams(query)}`, { signal });
    if (!response.ok) throw new Error(response.headers.get("Content-Type")?.startsWith("text/plain") ? await response.text() : response.statusText);
    return response.json();
  }

  // Yields positions of the examples that pass a test, block by block.
  async *where(test) {
    for (const number of this.payload.blocks.keys()) {
      const { examples } = await this.block(number), start = this.starts[number];
      yield d3.range(examples.length).filter((i) => test(examples[i])).map((i) => start + i);
    }
  }
}

// Text with a space for each character of white space or invisible character.
function plainSpaces(text) {
  return text.replace(/\x01[^\x02]*\x02/g, " ").replace(/\s/g, " ");
}

function plainText(text) {
  return plainSpaces(text).replace(/ +/g, " ").trim().toLowerCase();
}
