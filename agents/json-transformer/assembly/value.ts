// A JSON value. One class rather than one for each kind: what a value is gets asked far more often
// than what it can do.

export enum Kind {
  Null,
  False,
  True,
  Number,
  String,
  Array,
  Object,
}

const NO_ITEMS: Value[] = [];
const NO_FIELDS: Field[] = [];

export class Value {
  /** A number as it was written, or a string without its quotes and escapes. */
  text: string = "";
  /** The items of an array. */
  items: Value[] = NO_ITEMS;
  /** The fields of an object, in the order of the document; no key is there twice. */
  fields: Field[] = NO_FIELDS;

  constructor(public kind: Kind) {}

  static array(items: Value[]): Value {
    const value = new Value(Kind.Array);
    value.items = items;
    return value;
  }

  static object(fields: Field[]): Value {
    const value = new Value(Kind.Object);
    value.fields = fields;
    return value;
  }

  /** The value of a field, or null when this is no object, or has none of that name. */
  field(key: string): Value | null {
    for (let i = 0; i < this.fields.length; i++) {
      if (this.fields[i].key == key) return this.fields[i].value;
    }
    return null;
  }

  /** What kind of thing this is, in words for a message. */
  describe(): string {
    switch (this.kind) {
      case Kind.Null: return "null";
      case Kind.Number: return `the number ${this.text}`;
      case Kind.String: return "a string";
      case Kind.Array: return "a list";
      case Kind.Object: return "an object";
      default: return "a boolean";
    }
  }
}

export class Field {
  constructor(public key: string, public value: Value) {}
}
