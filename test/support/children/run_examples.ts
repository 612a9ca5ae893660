// Runs examples one after another in one process, which spares each the loading of the library: run_examples.ts MARK FILE...
// Behind the output of each, MARK is a line on both streams; on stderr behind what the example threw, as JSON.
const [mark = "", ...files] = process.argv.slice(2);

for (const file of files) {
  let thrown = "";
  try {
    await import(file);
  } catch (error) {
    thrown = Bun.inspect(error);
  }
  console.log(mark);
  console.error(JSON.stringify(thrown) + mark);
}
