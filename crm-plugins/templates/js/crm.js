// Between the host's typed fields and plain objects, in the form of the HTTP API: decimals, instants,
// dates, times and ids are strings.

/**
 * A record's fields as an object.
 * @template [T=Record<string, any>]
 * @param {Array<{ name: string, value: any }> | undefined} fields
 * @returns {T}
 */
export function object(fields) {
  const plain = ({ tag, val }) => {
    switch (tag) {
      case "null":
        return null;
      case "integer":
        return Number(val);
      case "vector":
        return Array.from(val);
      case "json":
        return JSON.parse(val);
      default:
        return val;
    }
  };
  return Object.fromEntries((fields ?? []).map(({ name, value }) => [name, plain(value)]));
}

/**
 * An object as fields to write.
 * @param {object} object
 * @returns {Array<{ name: string, value: any }>}
 */
export function fields(object) {
  const typed = (value) => {
    if (value === null || value === undefined) return { tag: "null" };
    if (typeof value === "boolean") return { tag: "boolean", val: value };
    if (typeof value === "string") return { tag: "text", val: value };
    if (Number.isSafeInteger(value)) return { tag: "integer", val: value };
    return { tag: "json", val: JSON.stringify(value) };
  };
  return Object.entries(object).map(([name, value]) => ({ name, value: typed(value) }));
}

/**
 * A text as bytes, in UTF-8.
 * @param {string} text
 */
export function bytes(text) {
  const binary = unescape(encodeURIComponent(text));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

/**
 * Bytes as a text, from UTF-8.
 * @param {Uint8Array} bytes
 */
export function text(bytes) {
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return decodeURIComponent(escape(binary));
}

/**
 * Why a call of the host did nothing, as one sentence.
 * @param {any} error
 * @returns {string}
 */
export function reason(error) {
  const { tag, val } = error?.payload ?? error ?? {};
  if (tag === "invalid") return val.map((field) => `${field.pointer}: ${field.message}`).join(" ");
  if (tag !== undefined) return val === undefined ? tag : `${tag}: ${val}`;
  return String(error?.message ?? error);
}

/**
 * The function with what it throws made the run's error.
 * @template I, O
 * @param {(input: I) => O} run
 * @returns {(input: I) => O}
 */
export function plugin(run) {
  return (input) => {
    try {
      return run(input);
    } catch (error) {
      throw reason(error);
    }
  };
}
