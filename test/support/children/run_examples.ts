// run_examples.ts MARK FILE...: runs examples one after another in one process, so that the library is loaded only once.
// After each example it prints a line with MARK to both streams; on stderr the thrown error, as JSON, is before MARK.
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
