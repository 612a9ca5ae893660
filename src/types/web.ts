/**
 * @module Names of the web's interfaces that this library's signatures have. To a program without declarations of the web (of
 * Bun, Node or the DOM) they would be unknown; these are merged with those of programs that have them.
 */

declare global {
  // The parameters, `any` included, are those of the other declarations: TypeScript wants them to be the same.
  interface AbortSignal {}
  interface ReadableStream<R = any> {}
  interface WritableStream<W = any> {}
}

export {};
