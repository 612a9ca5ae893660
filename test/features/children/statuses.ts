// Prints the status of a group of features by name as JSON. Runs without capabilities.
import { fresh, statuses } from "../fresh.ts";

console.log(JSON.stringify(statuses(fresh[process.argv[2] as keyof typeof fresh]())));
