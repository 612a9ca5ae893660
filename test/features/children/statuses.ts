// Run without capabilities: what the features of a sort are, by name, as JSON.
import { fresh, statuses } from "../fresh.ts";

console.log(JSON.stringify(statuses(fresh[process.argv[2] as keyof typeof fresh]())));
