/**
 * @module Stand-ins for exports whose part of the library is loaded on first use.
 *
 * Getters on the package's exports would not defer the loading: `import` of a CommonJS module reads all exports at once. So
 * each deferred export is an object that loads its part of the library when it is used.
 */

import { BpfError, errnoNumber } from "../ffi/error.ts";

type Class = abstract new (...args: never[]) => object;
type Callable = (...args: never[]) => unknown;

/** Loads a part of the library and returns its export of this name. */
type Load = (name: string) => unknown;

/**
 * Loads a part of the library.
 *
 * @throws {BpfError} EMFILE or ENFILE if no descriptor is left to read its file; a later call can succeed.
 */
export function loadPart<T>(load: () => T): T {
  try {
    return load();
  } catch (error) {
    // The error of Bun's module loader has no code, only a message: EMFILE reading "...".
    const code = /^E[MN]FILE\b/.exec((error as Error).message)?.[0];
    if (code === undefined) throw error;
    throw new BpfError({ errno: errnoNumber(code), syscall: "open", doing: "load bun-bpf" });
  }
}

/** Returns a stand-in for a function. */
export function deferredFunction(load: Load, name: string): Callable | undefined {
  return { [name]: (...args: never[]) => (load(name) as Callable)(...args) }[name];
}

/** Returns a stand-in for a namespace, whose members do not use `this`. */
export function deferredNamespace(load: Load, name: string): object {
  return new StandIn(load, name, shownAsLoaded(load, name, {})).proxy;
}

/** Returns a stand-in for an object with methods. */
export function deferredInstance(load: Load, name: string): object {
  return new InstanceStandIn(load, name, shownAsLoaded(load, name, {})).proxy;
}

/** Returns a stand-in for a class, which supports `new`, `extends`, `instanceof` and static members. */
export function deferredClass(load: Load, name: string): object {
  // The target is a function, because the prototype of a class cannot be replaced. Errors show the name of the function.
  const target = { [name]: function () {} }[name] as Callable;
  return new ClassStandIn(load, name, shownAsLoaded(load, name, target)).proxy;
}

/** Makes `console.log` show the loaded object instead of the stand-in. */
function shownAsLoaded<T extends object>(load: Load, name: string, target: T): T {
  return Object.assign(target, { [Symbol.for("nodejs.util.inspect.custom")]: () => load(name) });
}

/** The handler of a proxy that applies all operations to an object, which is loaded at the first one. */
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
    // A property that is set on a subclass belongs to the subclass.
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
    // A proxy may report a property as not configurable only if its target has such a property.
    const { configurable = true } = Reflect.getOwnPropertyDescriptor(this.target, name) ?? {};
    return descriptor && { ...descriptor, configurable };
  }
}

/** The handler for an object with methods. They may use private fields, and so need the object itself as `this`. */
class InstanceStandIn extends StandIn {
  override get(_: object, name: PropertyKey): unknown {
    const member: unknown = Reflect.get(this.loaded, name);
    return typeof member === "function" ? (member as Callable).bind(this.loaded) : member;
  }
}

/** The handler for a class. The stand-in is also the `constructor` of the objects, so that scripts never see the class itself. */
class ClassStandIn extends StandIn {
  protected override load(): object {
    const loaded = super.load() as Class;
    Object.defineProperty(this.target, "prototype", { value: loaded.prototype, writable: false });
    Object.defineProperty(loaded.prototype, "constructor", { value: this.proxy });
    // The console does not show the name of a class that is a proxy. Errors have a property `name` instead.
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
