import { checkOptions } from "../types/argument.ts";
import { describe } from "../types/refusal.ts";
import {
  createMapHandle,
  type ExpectedMap,
  type MapHandle,
  mapHandleById,
  mapHandleFromFd,
  openMapHandle,
} from "./handle.ts";
import {
  type CommonMapOptions,
  commonMapOptionNames,
  commonSpec,
  type MapSpec,
  type MapTypeName,
} from "./spec.ts";

/** What distinguishes a kind of map from the others. */
export interface KindDefinition<Types, Options> {
  readonly type: MapTypeName;
  /** The class, for messages. */
  readonly className: string;
  /** The names of its options, beside those that every kind has. */
  readonly options: readonly string[];
  /**
   * Checks the types and says which sizes follow from them. What is left out may be anything in a map that is opened.
   *
   * @throws {TypeError | RangeError}
   */
  sizes(types: Types): Partial<Pick<MapSpec, "keySize" | "valueSize">>;
  /**
   * Checks the other options and says what follows from them; `flags` are added to those of the options.
   *
   * @throws {TypeError | RangeError}
   */
  complete(options: Options): Pick<MapSpec, "maxEntries"> & Partial<MapSpec>;
}

/** How the maps of one kind are made and opened: the part of a class that does not depend on its operations. */
export class MapKind<Types extends object, Options extends Types & CommonMapOptions> {
  readonly #definition: KindDefinition<Types, Options>;

  constructor(definition: KindDefinition<Types, Options>) {
    this.#definition = definition;
  }

  get type(): MapTypeName {
    return this.#definition.type;
  }

  /** Checks options and makes plain data of them. @throws {TypeError | RangeError} */
  spec(options: Options): MapSpec {
    const { type, className, options: names } = this.#definition;
    checkOptions(className, options, [...names, ...commonMapOptionNames]);
    const sizes = { keySize: 0, valueSize: 0, ...this.#definition.sizes(options) };
    const { flags = 0, ...completed } = this.#definition.complete(options);
    const common = commonSpec(options);
    return { type, ...sizes, ...common, ...completed, flags: common.flags | flags };
  }

  /** @param options all of them, as the class's own constructor asks for */
  create(options: Types): MapHandle {
    // A constructor takes options or, from within the library alone, types with an existing map: here it is options.
    const complete = options as unknown as Options;
    return createMapHandle(this.spec(complete), complete.pin);
  }

  open(path: string, types: Types): MapHandle {
    return openMapHandle(path, this.#expected(types));
  }

  byId(id: number, types: Types): MapHandle {
    return mapHandleById(id, this.#expected(types));
  }

  byFd(fd: number, types: Types): MapHandle {
    return mapHandleFromFd(fd, this.#expected(types));
  }

  #expected(types: Types): ExpectedMap {
    if (typeof types !== "object" || types === null) {
      throw new TypeError(
        `types: expected those of the map's keys and values or events, as given to new ${this.#definition.className}, got ${describe(types)}`,
      );
    }
    return { type: this.#definition.type, ...this.#definition.sizes(types) };
  }
}
