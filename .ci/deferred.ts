/**
 * @module Stand-ins for exports whose part of the library is loaded on first use. `import` reads all exports of CommonJS at
 * once, getters too, so that only an object that loads when it is touched can wait.
 */

type Class = abstract new (...args: never[]) => object;
type Callable = (...args: never[]) => unknown;

/** Stands in for a function. */
export function deferredFunction(load: () => Callable, name: string): Callable | undefined {
  return { [name]: (...args: never[]) => load()(...args) }[name];
}

/** Stands in for a namespace: its members do not care about `this`. */
export function deferredNamespace(load: () => object): object {
  return new Proxy({}, handler(load));
}

/** Stands in for an object with methods, which may have private fields and thus want the object itself as `this`. */
export function deferredObject(load: () => object): object {
  return new Proxy(
    { [Symbol.for("nodejs.util.inspect.custom")]: load },
    {
      ...handler(load),
      get(_, name) {
        const object = load();
        const member: unknown = Reflect.get(object, name);
        return typeof member === "function" ? (member as Callable).bind(object) : member;
      },
    },
  );
}

/**
 * Stands in for a class: with `new`, `extends`, `instanceof` and static members. `constructor` of its objects is the stand-in,
 * which is the only class that users see.
 */
export function deferredClass(load: () => Class, name: string): Class {
  // A function, as a class has a prototype of its own that could not be replaced. Named, as the console shows it.
  const target = { [name]: function () {} }[name] as unknown as Class;
  let loaded: Class | undefined;
  const get = (): Class => {
    if (loaded === undefined) {
      loaded = load();
      Object.defineProperty(target, "prototype", { value: loaded.prototype, writable: false });
      Object.defineProperty(loaded.prototype, "constructor", { value: proxy });
    }
    return loaded;
  };
  const proxy: Class = new Proxy(target, {
    ...handler(get),
    construct: (_, args, newTarget) =>
      Reflect.construct(get(), args, newTarget === proxy ? get() : newTarget) as object,
  });
  return proxy;
}

/** Everything but `construct` and the properties that a proxy may not hide, passed on to what is loaded. */
function handler(load: () => object): ProxyHandler<object> {
  return {
    get: (_, name) => Reflect.get(load(), name) as unknown,
    set: (_, name, value) => Reflect.set(load(), name, value),
    has: (_, name) => Reflect.has(load(), name),
    apply: (_, self, args) => Reflect.apply(load() as Callable, self, args as never[]) as unknown,
    ownKeys: (_) => Reflect.ownKeys(load()),
    getPrototypeOf: (_) => Reflect.getPrototypeOf(load()),
    getOwnPropertyDescriptor(target, name) {
      const descriptor = Reflect.getOwnPropertyDescriptor(load(), name);
      // What the target does not have must not be called fixed.
      return descriptor && { ...descriptor, configurable: !Object.hasOwn(target, name) };
    },
  };
}
