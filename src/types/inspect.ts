/** What `console.log` calls to show a value: Node's `util.inspect.custom`, without the milliseconds that loading `node:util` takes. */
export const inspectCustom: unique symbol = Symbol.for("nodejs.util.inspect.custom");
