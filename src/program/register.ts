/** @module The registers. */

import type { Register, RegisterNumber } from "./instruction.ts";

function register<Index extends RegisterNumber>(index: Index): Register<Index> {
  return Object.freeze({ register: index });
}

/** What a function or the program returns; calls overwrite it. */
export const r0: Register<0> = register(0);
/** The first argument; at the start of a program its context. Calls destroy it. */
export const r1: Register<1> = register(1);
/** The second argument. Calls destroy it. */
export const r2: Register<2> = register(2);
/** The third argument. Calls destroy it. */
export const r3: Register<3> = register(3);
/** The fourth argument. Calls destroy it. */
export const r4: Register<4> = register(4);
/** The fifth argument. Calls destroy it. */
export const r5: Register<5> = register(5);
/** Survives calls. The legacy packet loads expect the context here. */
export const r6: Register<6> = register(6);
/** Survives calls. */
export const r7: Register<7> = register(7);
/** Survives calls. */
export const r8: Register<8> = register(8);
/** Survives calls. */
export const r9: Register<9> = register(9);
/** The frame pointer: the end of the 512 bytes of stack. Cannot be written. */
export const r10: Register<10> = register(10);
/** The frame pointer, by its other name. */
export const fp: Register<10> = r10;
