// Values to JSON in UTF-8, without spaces. Writes bytes straight into one growing buffer: adding
// strings to each other would copy the document once for each of its values.

import { Kind, Value } from "./value";

export class Printer {
  buffer: ArrayBuffer = new ArrayBuffer(4096);
  length: i32 = 0;

  value(value: Value): void {
    switch (value.kind) {
      case Kind.Null: this.ascii("null"); break;
      case Kind.True: this.ascii("true"); break;
      case Kind.False: this.ascii("false"); break;
      case Kind.Number: this.ascii(value.text); break;
      case Kind.String: this.string(value.text); break;
      case Kind.Array: {
        this.byte(0x5b);
        for (let i = 0; i < value.items.length; i++) {
          if (i > 0) this.byte(0x2c);
          this.value(value.items[i]);
        }
        this.byte(0x5d);
        break;
      }
      case Kind.Object: {
        this.byte(0x7b);
        for (let i = 0; i < value.fields.length; i++) {
          if (i > 0) this.byte(0x2c);
          this.string(value.fields[i].key);
          this.byte(0x3a);
          this.value(value.fields[i].value);
        }
        this.byte(0x7d);
        break;
      }
    }
  }

  private string(text: string): void {
    this.byte(0x22);
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (unit == 0x22 || unit == 0x5c) {
        this.byte(0x5c);
        this.byte(unit);
      } else if (unit == 0x0a) {
        this.ascii("\\n");
      } else if (unit == 0x0d) {
        this.ascii("\\r");
      } else if (unit == 0x09) {
        this.ascii("\\t");
      } else if (unit < 0x20) {
        this.escape(unit);
      } else if ((unit & 0xf800) != 0xd800) {
        this.character(unit);
      } else {
        const next = i + 1 < text.length ? text.charCodeAt(i + 1) : 0;
        if (unit < 0xdc00 && (next & 0xfc00) == 0xdc00) {
          this.character(0x10000 + ((unit & 0x3ff) << 10) + (next & 0x3ff));
          i++;
        } else {
          this.escape(unit); // half of a pair has no UTF-8
        }
      }
    }
    this.byte(0x22);
  }

  private character(code: i32): void {
    if (code < 0x80) {
      this.byte(code);
    } else if (code < 0x800) {
      this.byte(0xc0 | (code >> 6));
      this.byte(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
      this.byte(0xe0 | (code >> 12));
      this.byte(0x80 | ((code >> 6) & 0x3f));
      this.byte(0x80 | (code & 0x3f));
    } else {
      this.byte(0xf0 | (code >> 18));
      this.byte(0x80 | ((code >> 12) & 0x3f));
      this.byte(0x80 | ((code >> 6) & 0x3f));
      this.byte(0x80 | (code & 0x3f));
    }
  }

  private escape(unit: i32): void {
    this.ascii("\\u" + unit.toString(16).padStart(4, "0"));
  }

  private ascii(text: string): void {
    for (let i = 0; i < text.length; i++) this.byte(text.charCodeAt(i));
  }

  private byte(byte: i32): void {
    if (this.length == this.buffer.byteLength) {
      const grown = new ArrayBuffer(this.length * 2);
      memory.copy(changetype<usize>(grown), changetype<usize>(this.buffer), this.length);
      this.buffer = grown;
    }
    store<u8>(changetype<usize>(this.buffer) + this.length, <u8>byte);
    this.length++;
  }
}
