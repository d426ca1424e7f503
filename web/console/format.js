// Numbers, times and bytes as people read them.

const grouped = new Intl.NumberFormat("en");
const oneDigit = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (n) => grouped.format(Math.round(n));

export const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

export const percent = (share) => `${oneDigit.format(share * 100)} %`;

/** 1,234 bytes are 1.2 kB. */
export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1000;
    unit++;
  }
  return `${unit === 0 || n >= 100 ? number(n) : oneDigit.format(n)} ${units[unit]}`;
}

/** A span of time of so many milliseconds, with one unit: 3.2 ms, 12 s, 5 min. */
export function span(ms) {
  if (ms < 1) return `${number(ms * 1000)} µs`;
  if (ms < 10) return `${oneDigit.format(ms)} ms`;
  if (ms < 1000) return `${number(ms)} ms`;
  for (const [unit, length, most] of [["s", 1000, 90], ["min", 60_000, 90], ["h", 3_600_000, 48]]) {
    if (ms / length < most) return `${number(ms / length)} ${unit}`;
  }
  return plural(ms / 86_400_000, "day");
}

/** A position on the ring: eight hexadecimal digits, the first bytes of an MD5. */
export const position = (p) => `0x${p.toString(16).padStart(8, "0")}`;

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes as text that a text field gives back unchanged; null where it would not: what
 * is not UTF-8, has control characters, or a line end that a field rewrites. */
export function asText(data) {
  let text;
  try {
    text = strict.decode(data);
  } catch {
    return null;
  }
  // eslint-disable-next-line no-control-regex
  return /[\u0000-\u0008\u000b-\u001f\u007f]/.test(text) ? null : text;
}

/** Bytes as hexadecimal, sixteen in a line. */
export function hex(data) {
  const lines = [];
  for (let at = 0; at < data.length; at += 16) {
    lines.push(Array.from(data.subarray(at, at + 16), (b) => b.toString(16).padStart(2, "0")).join(" "));
  }
  return lines.join("\n");
}

/** The bytes that hexadecimal stands for; throws an error that says what is wrong. */
export function unhex(text) {
  const digits = text.replace(/\s+/g, "");
  const wrong = digits.match(/[^0-9a-fA-F]/);
  if (wrong) throw new Error(`"${wrong[0]}" is no hexadecimal digit`);
  if (digits.length % 2) throw new Error("a byte has two hexadecimal digits, and the last one has one");
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** Bytes as one line, in parts: what can be shown as it is, and escapes (\x00, \n) for
 * the rest. At most so many characters. */
export function parts(data, most = 120) {
  const text = asText(data);
  const out = [];
  const add = (piece, escape) => {
    const last = out.at(-1);
    if (last && last.escape === escape) last.text += piece;
    else out.push({ text: piece, escape });
  };
  let length = 0;
  for (const unit of text ?? data) {
    if (length >= most) {
      add("…", true);
      break;
    }
    const code = typeof unit === "string" ? unit.codePointAt(0) : unit;
    const plain = typeof unit === "string" ? shown(code) : code >= 0x20 && code < 0x7f;
    const piece = plain ? String.fromCodePoint(code) : escapeOf(code);
    add(piece, !plain);
    length += piece.length;
  }
  return out;
}

/** Whether a character can be seen, and does not change how its neighbours look: those
 * that turn the direction of writing around can make one key look like another. */
function shown(code) {
  return code >= 0x20 && code !== 0x7f && !(code >= 0x80 && code < 0xa0) && !/[\p{Cf}\p{Zl}\p{Zp}]/u.test(String.fromCodePoint(code));
}

function escapeOf(code) {
  const short = { 9: "\\t", 10: "\\n", 13: "\\r" }[code];
  if (short) return short;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}

/** The same as a plain string. */
export const line = (data, most) => parts(data, most).map((part) => part.text).join("");

const encoder = new TextEncoder();

/** The bytes of a text; bytes as they are. */
export const toBytes = (data) => (typeof data === "string" ? encoder.encode(data) : data);
