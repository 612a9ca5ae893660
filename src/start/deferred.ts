/**
 * @module Stand-ins for exports whose part of the library is loaded on first use, for the bundles of the package. `import`
 * reads all exports of CommonJS at once, getters too, so that only an object that loads when it is touched can wait.
 */

import { BpfError, errnoNumber } from "../ffi/error.ts";

type Class = abstract new (...args: never[]) => object;
type Callable = (...args: never[]) => unknown;

/** Loads an export by its name. */
type Load = (name: string) => unknown;

/** Loads the part. @throws {BpfError} where no descriptor is left to read its file; a later attempt may succeed */
export function loadPart<T>(load: () => T): T {
  try {
    return load();
  } catch (error) {
    // The engine's error has only a message: EMFILE reading "...".
    const code = /^E[MN]FILE\b/.exec((error as Error).message)?.[0];
    if (code === undefined) throw error;
    throw new BpfError({ errno: errnoNumber(code), syscall: "open", doing: "load bun-bpf" });
  }
}

/** Stands in for a function. */
export function deferredFunction(load: Load, name: string): Callable | undefined {
  return { [name]: (...args: never[]) => (load(name) as Callable)(...args) }[name];
}

/** Stands in for a namespace, whose members do not care about `this`. */
export function deferredNamespace(load: Load, name: string): object {
  return new StandIn(load, name, shownAsLoaded(load, name, {})).proxy;
}

/** Stands in for an object with methods. */
export function deferredInstance(load: Load, name: string): object {
  return new InstanceStandIn(load, name, shownAsLoaded(load, name, {})).proxy;
}

/** Stands in for a class: with `new`, `extends`, `instanceof` and static members. */
export function deferredClass(load: Load, name: string): object {
  // A function, as a class has a prototype of its own that could not be replaced. Named, as errors show it.
  const target = { [name]: function () {} }[name] as Callable;
  return new ClassStandIn(load, name, shownAsLoaded(load, name, target)).proxy;
}

/** Has the console show what is loaded. */
function shownAsLoaded<T extends object>(load: Load, name: string, target: T): T {
  return Object.assign(target, { [Symbol.for("nodejs.util.inspect.custom")]: () => load(name) });
}

/** Passes on to an object what is done to the proxy. */
class StandIn implements ProxyHandler<object> {
  readonly proxy: object;
  protected readonly target: object;
  readonly #load: Load;
  readonly #name: string;
  #loaded: object | undefined;

  constructor(load: Load, name: string, target: object) {
    this.#load = load;
    this.#name = name;
    this.target = target;
    this.proxy = new Proxy(target, this);
  }

  protected load(): object {
    return this.#load(this.#name) as object;
  }

  protected get loaded(): object {
    this.#loaded ??= this.load();
    return this.#loaded;
  }

  get(_: object, name: PropertyKey): unknown {
    return Reflect.get(this.loaded, name);
  }

  set(_: object, name: PropertyKey, value: unknown, receiver: unknown): boolean {
    // A subclass gets properties of its own.
    return Reflect.set(this.loaded, name, value, receiver === this.proxy ? this.loaded : receiver);
  }

  defineProperty(_: object, name: PropertyKey, descriptor: PropertyDescriptor): boolean {
    return Reflect.defineProperty(this.loaded, name, descriptor);
  }

  deleteProperty(_: object, name: PropertyKey): boolean {
    return Reflect.deleteProperty(this.loaded, name);
  }

  has(_: object, name: PropertyKey): boolean {
    return Reflect.has(this.loaded, name);
  }

  ownKeys(): (string | symbol)[] {
    return Reflect.ownKeys(this.loaded);
  }

  getPrototypeOf(): object | null {
    return Reflect.getPrototypeOf(this.loaded);
  }

  getOwnPropertyDescriptor(_: object, name: PropertyKey): PropertyDescriptor | undefined {
    const descriptor = Reflect.getOwnPropertyDescriptor(this.loaded, name);
    // Of a property's being fixed, a proxy must say what holds for its target.
    const { configurable = true } = Reflect.getOwnPropertyDescriptor(this.target, name) ?? {};
    return descriptor && { ...descriptor, configurable };
  }
}

/** The methods may use private fields, and thus want the object itself as `this`. */
class InstanceStandIn extends StandIn {
  override get(_: object, name: PropertyKey): unknown {
    const member: unknown = Reflect.get(this.loaded, name);
    return typeof member === "function" ? (member as Callable).bind(this.loaded) : member;
  }
}

/** Users see the stand-in alone: it is the `constructor` of the objects, too. */
class ClassStandIn extends StandIn {
  protected override load(): object {
    const loaded = super.load() as Class;
    Object.defineProperty(this.target, "prototype", { value: loaded.prototype, writable: false });
    Object.defineProperty(loaded.prototype, "constructor", { value: this.proxy });
    // The console takes no proxy's name for an object's; errors have a name of their own.
    if (!(loaded.prototype instanceof Error)) {
      Object.defineProperty(loaded.prototype, Symbol.toStringTag, { value: loaded.name });
    }
    return loaded;
  }

  apply(_: object, self: unknown, args: unknown[]): unknown {
    return Reflect.apply(this.loaded as Callable, self, args as never[]);
  }

  construct(_: object, args: unknown[], newTarget: Function): object {
    const loaded = this.loaded as Function;
    return Reflect.construct(loaded, args, newTarget === this.proxy ? loaded : newTarget) as object;
  }
}
