// Reshapes a JSON document: parses the request, applies its steps, prints the result. An exception
// would be a trap here, so what can go wrong is a value: a parser or transformer with an `error`.

import { input, logError, output } from "./abi";
import { Parser } from "./parser";
import { Printer } from "./printer";
import { transform } from "./transform";
import { invalidUtf8 } from "./utf8";

/** Entry point of the mentat ABI: 0 is success. */
export function process(): i32 {
  const bytes = input();
  const invalid = invalidUtf8(bytes);
  if (invalid < bytes.byteLength) {
    return refuse(`the input is not UTF-8: byte ${invalid} begins no character`);
  }
  const parser = new Parser(String.UTF8.decode(bytes));
  const request = parser.document();
  if (request === null) return refuse(`the input is not JSON: ${parser.error}`);

  const result = transform(request);
  const document = result.document;
  if (document === null) return refuse(result.error);

  const printer = new Printer();
  printer.value(document);
  output(printer.buffer, printer.length);
  return 0;
}

function refuse(message: string): i32 {
  logError(message);
  return 1;
}
