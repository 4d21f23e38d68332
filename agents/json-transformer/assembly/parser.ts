// JSON (RFC 8259) to values. Strict: nothing is accepted that the standard does not allow, and a key
// that stands twice in an object is refused, because readers disagree about which one counts.

import { Field, Kind, Value } from "./value";

/** Deeper documents are refused: parsing is recursive, and the stack has an end. */
const MAX_DEPTH = 256;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

export class Parser {
  /** Why there is no value, with the line and column. */
  error: string = "";
  private at: i32 = 0;
  private depth: i32 = 0;

  constructor(private text: string) {}

  /** The value that the whole text is, or null with `error` set. */
  document(): Value | null {
    const value = this.value();
    if (value === null) return null;
    this.skipSpace();
    if (this.at < this.text.length) return this.fail("there is more after the value");
    return value;
  }

  private value(): Value | null {
    this.skipSpace();
    const next = this.peek();
    if (next == 0x7b) return this.nested(Kind.Object);
    if (next == 0x5b) return this.nested(Kind.Array);
    if (next == QUOTE) {
      const text = this.string();
      if (text === null) return null;
      const value = new Value(Kind.String);
      value.text = text;
      return value;
    }
    if (next == 0x2d || isDigit(next)) return this.number();
    if (this.take("null")) return new Value(Kind.Null);
    if (this.take("true")) return new Value(Kind.True);
    if (this.take("false")) return new Value(Kind.False);
    return this.fail(next < 0 ? "the text ends where a value should be" : "this is no value");
  }

  private nested(kind: Kind): Value | null {
    if (this.depth == MAX_DEPTH) return this.fail(`values are nested more than ${MAX_DEPTH} deep`);
    this.depth++;
    this.at++;
    const value = kind == Kind.Object ? this.object() : this.array();
    this.depth--;
    return value;
  }

  private array(): Value | null {
    const items: Value[] = [];
    this.skipSpace();
    if (this.takeUnit(0x5d)) return Value.array(items);
    while (true) {
      const item = this.value();
      if (item === null) return null;
      items.push(item);
      this.skipSpace();
      if (this.takeUnit(0x5d)) return Value.array(items);
      if (!this.takeUnit(0x2c)) return this.fail("a list goes on with `,` or ends with `]`");
    }
  }

  private object(): Value | null {
    const fields: Field[] = [];
    const keys = new Set<string>();
    this.skipSpace();
    if (this.takeUnit(0x7d)) return Value.object(fields);
    while (true) {
      this.skipSpace();
      const start = this.at;
      if (this.peek() != QUOTE) return this.fail("an object's key is a string in double quotes");
      const key = this.string();
      if (key === null) return null;
      if (keys.has(key)) {
        this.at = start;
        return this.fail(`the key \`${key}\` stands twice in one object`);
      }
      keys.add(key);
      this.skipSpace();
      if (!this.takeUnit(0x3a)) return this.fail("a `:` follows an object's key");
      const value = this.value();
      if (value === null) return null;
      fields.push(new Field(key, value));
      this.skipSpace();
      if (this.takeUnit(0x7d)) return Value.object(fields);
      if (!this.takeUnit(0x2c)) return this.fail("an object goes on with `,` or ends with `}`");
    }
  }

  /** A number keeps its text: neither its digits nor its form pass through a float. */
  private number(): Value | null {
    const start = this.at;
    this.takeUnit(0x2d);
    if (!this.takeUnit(0x30) && !this.digits()) return this.fail("a number needs a digit here");
    if (isDigit(this.peek())) return this.fail("a number does not begin with 0");
    if (this.takeUnit(0x2e) && !this.digits()) return this.fail("a digit follows a decimal point");
    if (this.takeUnit(0x65) || this.takeUnit(0x45)) {
      if (!this.takeUnit(0x2b)) this.takeUnit(0x2d);
      if (!this.digits()) return this.fail("an exponent needs a digit here");
    }
    const value = new Value(Kind.Number);
    value.text = this.text.substring(start, this.at);
    return value;
  }

  private digits(): bool {
    const start = this.at;
    while (isDigit(this.peek())) this.at++;
    return this.at > start;
  }

  private string(): string | null {
    const start = ++this.at;
    while (true) {
      const unit = this.peek();
      if (unit == QUOTE) return this.text.substring(start, this.at++);
      if (unit == BACKSLASH) return this.escapedString(start);
      if (!this.isInString(unit)) return null;
      this.at++;
    }
  }

  /** The rest of a string from its first escape on, collected unit by unit. */
  private escapedString(start: i32): string | null {
    const units: i32[] = [];
    for (let i = start; i < this.at; i++) units.push(this.text.charCodeAt(i));
    while (true) {
      const unit = this.peek();
      if (unit == BACKSLASH) {
        const escaped = this.escape();
        if (escaped < 0) return null;
        units.push(escaped);
      } else if (unit == QUOTE) {
        this.at++;
        return String.fromCharCodes(units);
      } else if (!this.isInString(unit)) {
        return null;
      } else {
        units.push(unit);
        this.at++;
      }
    }
  }

  private isInString(unit: i32): bool {
    if (unit >= 0x20) return true;
    this.fail(unit < 0 ? "the text ends within a string" : "a control character in a string must be escaped");
    return false;
  }

  /** The code unit that an escape stands for, or -1. Surrogates stay single: half of a pair is valid
   * JSON, and is printed as the escape that it was. */
  private escape(): i32 {
    const letter = this.at + 1 < this.text.length ? this.text.charCodeAt(this.at + 1) : -1;
    let unit = -1;
    switch (letter) {
      case QUOTE: case BACKSLASH: case 0x2f: unit = letter; break;
      case 0x62: unit = 0x08; break;
      case 0x66: unit = 0x0c; break;
      case 0x6e: unit = 0x0a; break;
      case 0x72: unit = 0x0d; break;
      case 0x74: unit = 0x09; break;
      case 0x75: unit = this.hexadecimal(this.at + 2); break;
    }
    if (unit < 0) {
      this.fail("there is no such escape; there are \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\u with four hexadecimal digits");
      return -1;
    }
    this.at += letter == 0x75 ? 6 : 2;
    return unit;
  }

  private hexadecimal(start: i32): i32 {
    if (start + 4 > this.text.length) return -1;
    let number = 0;
    for (let i = start; i < start + 4; i++) {
      const digit = this.text.charCodeAt(i);
      const lower = digit | 0x20;
      if (isDigit(digit)) number = number * 16 + (digit - 0x30);
      else if (lower >= 0x61 && lower <= 0x66) number = number * 16 + (lower - 0x57);
      else return -1;
    }
    return number;
  }

  private skipSpace(): void {
    while (true) {
      const unit = this.peek();
      if (unit != 0x20 && unit != 0x0a && unit != 0x0d && unit != 0x09) return;
      this.at++;
    }
  }

  /** The next code unit, or -1 at the end. */
  private peek(): i32 {
    return this.at < this.text.length ? this.text.charCodeAt(this.at) : -1;
  }

  private takeUnit(unit: i32): bool {
    if (this.peek() != unit) return false;
    this.at++;
    return true;
  }

  private take(word: string): bool {
    if (!this.text.startsWith(word, this.at)) return false;
    this.at += word.length;
    return true;
  }

  private fail(message: string): Value | null {
    let line = 1;
    let lineStart = 0;
    for (let i = 0; i < this.at; i++) {
      if (this.text.charCodeAt(i) == 0x0a) {
        line++;
        lineStart = i + 1;
      }
    }
    this.error = `line ${line}, column ${this.at - lineStart + 1}: ${message}`;
    return null;
  }
}

function isDigit(unit: i32): bool {
  return unit >= 0x30 && unit <= 0x39;
}
