// The steps. Each takes a document and gives a new one; a step that works on an object works on each
// object of a list, too. Nothing is changed in place, so values may be shared between documents.

import { Field, Kind, Value } from "./value";

const STEPS = "{\"pick\": [names]}, {\"drop\": [names]}, {\"rename\": {old: new}}, \"flatten\" and \"sort_keys\"";

/** A document, or why there is none. */
export class Result {
  constructor(public document: Value | null, public error: string) {}

  static of(document: Value): Result {
    return new Result(document, "");
  }

  static failed(error: string): Result {
    return new Result(null, error);
  }
}

/** Applies a request's steps to its document. */
export function transform(request: Value): Result {
  for (let i = 0; i < request.fields.length; i++) {
    const key = request.fields[i].key;
    if (key != "transform" && key != "document") {
      return Result.failed(`\`${key}\` is not part of a request; it has \`transform\` and \`document\``);
    }
  }
  const steps = request.field("transform");
  const original = request.field("document");
  if (steps === null || original === null) {
    return Result.failed("a request is an object with the fields `transform` and `document`");
  }
  if (steps.kind != Kind.Array) {
    return Result.failed(`\`transform\` is a list of steps, not ${steps.describe()}; there are ${STEPS}`);
  }
  let document: Value = original;
  for (let i = 0; i < steps.items.length; i++) {
    const result = apply(steps.items[i], document);
    const changed = result.document;
    if (changed === null) return Result.failed(`step ${i + 1}: ${result.error}`);
    document = changed;
  }
  return Result.of(document);
}

/** Applies one step to a document. */
function apply(step: Value, document: Value): Result {
  let name = step.text;
  let argument = new Value(Kind.Null);
  if (step.kind == Kind.Object && step.fields.length == 1) {
    name = step.fields[0].key;
    argument = step.fields[0].value;
  } else if (step.kind != Kind.String) {
    return Result.failed(`${step.describe()} is no step; there are ${STEPS}`);
  }
  if (name == "sort_keys" && argument.kind == Kind.Null) return Result.of(sortKeys(document));

  const isKnown = name == "pick" || name == "drop"
    ? isListOfStrings(argument)
    : name == "rename" ? isObjectOfStrings(argument) : name == "flatten" && argument.kind == Kind.Null;
  if (!isKnown) return Result.failed(`\`${name}\` is no step, or not with this argument; there are ${STEPS}`);
  if (document.kind == Kind.Object) return applyToObject(name, argument, document);
  if (document.kind != Kind.Array) {
    return Result.failed(`\`${name}\` needs an object or a list of objects, not ${document.describe()}`);
  }
  const items: Value[] = [];
  for (let i = 0; i < document.items.length; i++) {
    const item = document.items[i];
    if (item.kind != Kind.Object) {
      return Result.failed(`\`${name}\` needs a list of objects, but item ${i + 1} is ${item.describe()}`);
    }
    const result = applyToObject(name, argument, item);
    const changed = result.document;
    if (changed === null) return Result.failed(`item ${i + 1}: ${result.error}`);
    items.push(changed);
  }
  return Result.of(Value.array(items));
}

function applyToObject(name: string, argument: Value, object: Value): Result {
  if (name == "flatten") return flatten(object);
  if (name == "rename") return rename(object, argument);
  return Result.of(filter(object, argument.items, name == "pick"));
}

/** The fields that are named, or those that are not, in the order of the document. */
function filter(object: Value, names: Value[], keepNamed: bool): Value {
  const named = new Set<string>();
  for (let i = 0; i < names.length; i++) named.add(names[i].text);
  const fields: Field[] = [];
  for (let i = 0; i < object.fields.length; i++) {
    if (named.has(object.fields[i].key) == keepNamed) fields.push(object.fields[i]);
  }
  return Value.object(fields);
}

function rename(object: Value, names: Value): Result {
  const newNames = new Map<string, string>();
  for (let i = 0; i < names.fields.length; i++) {
    newNames.set(names.fields[i].key, names.fields[i].value.text);
  }
  const fields: Field[] = [];
  for (let i = 0; i < object.fields.length; i++) {
    const field = object.fields[i];
    const key = newNames.has(field.key) ? newNames.get(field.key) : field.key;
    fields.push(new Field(key, field.value));
  }
  return withoutRepetition("rename", fields);
}

/** `{"a": {"b": [1]}}` becomes `{"a.b.0": 1}`; what is empty stays as it is. */
function flatten(object: Value): Result {
  const fields: Field[] = [];
  for (let i = 0; i < object.fields.length; i++) {
    collect(object.fields[i].value, object.fields[i].key, fields);
  }
  return withoutRepetition("flatten", fields);
}

function collect(value: Value, path: string, into: Field[]): void {
  if (value.fields.length > 0) {
    for (let i = 0; i < value.fields.length; i++) {
      collect(value.fields[i].value, path + "." + value.fields[i].key, into);
    }
  } else if (value.items.length > 0) {
    for (let i = 0; i < value.items.length; i++) collect(value.items[i], path + "." + i.toString(), into);
  } else {
    into.push(new Field(path, value));
  }
}

/** An object whose keys a step made, if they are all different. */
function withoutRepetition(step: string, fields: Field[]): Result {
  const keys = new Set<string>();
  for (let i = 0; i < fields.length; i++) {
    const key = fields[i].key;
    if (keys.has(key)) return Result.failed(`\`${step}\` would make the key \`${key}\` twice`);
    keys.add(key);
  }
  return Result.of(Value.object(fields));
}

/** The keys of every object in order, by UTF-16 code units as in RFC 8785. */
function sortKeys(value: Value): Value {
  if (value.kind == Kind.Array) {
    const items: Value[] = [];
    for (let i = 0; i < value.items.length; i++) items.push(sortKeys(value.items[i]));
    return Value.array(items);
  }
  if (value.kind != Kind.Object) return value;
  const fields: Field[] = [];
  for (let i = 0; i < value.fields.length; i++) {
    fields.push(new Field(value.fields[i].key, sortKeys(value.fields[i].value)));
  }
  fields.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return Value.object(fields);
}

function isListOfStrings(value: Value): bool {
  for (let i = 0; i < value.items.length; i++) {
    if (value.items[i].kind != Kind.String) return false;
  }
  return value.kind == Kind.Array;
}

function isObjectOfStrings(value: Value): bool {
  for (let i = 0; i < value.fields.length; i++) {
    if (value.fields[i].value.kind != Kind.String) return false;
  }
  return value.kind == Kind.Object;
}
