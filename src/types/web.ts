/**
 * @module Declarations of the web interfaces in this library's signatures, for programs without type declarations of Bun, Node or
 * the DOM. TypeScript merges them with those declarations where a program has them.
 */

declare global {
  // TypeScript requires the same type parameters, defaults included, in all declarations that it merges.
  interface AbortSignal {}
  interface ReadableStream<R = any> {}
  interface WritableStream<W = any> {}
}

export {};
