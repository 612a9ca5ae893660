// Run as a child: has a Worker do what left_open.ts does with these arguments.
new Worker(new URL("left_open.ts", import.meta.url), { argv: process.argv.slice(2) });
