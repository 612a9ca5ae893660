// Runs left_open.ts with these arguments in a Worker.
new Worker(new URL("left_open.ts", import.meta.url), { argv: process.argv.slice(2) });
