// Calls a number over the HTTP door, and waits for how the call ended. Types and client come from the OpenAPI document:
//
//   curl -sS "$CALLS_URL/v1/openapi.json" -H "Authorization: Bearer $VOICEFLOW_API_SECRET" -o calls.json
//   npm install openapi-fetch openapi-typescript typescript@5 @types/node
//   npx openapi-typescript calls.json --output calls.d.ts
//   npx tsc --noEmit --checkJs --strict --module nodenext order_ready.mjs
//   node order_ready.mjs order-42 +6587654321
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import createClient from "openapi-fetch";

const [key, to] = process.argv.slice(2);

/** @type {import("openapi-fetch").Client<import("./calls.d.ts").paths>} */
const door = createClient({
  baseUrl: process.env.CALLS_URL,
  headers: { Authorization: `Bearer ${process.env.VOICEFLOW_API_SECRET}` },
});

/** The same key again is the same call: what has no answer, or one that may change (429, 5xx), is asked for again. */
async function order() {
  for (let tries = 1; ; tries++) {
    const answer = await door
      .POST("/v1/calls", {
        params: { header: { "Idempotency-Key": key } },
        body: { to, say: "Hello {{name}}, your order is ready.", data: { name: "Li" }, valid_for: "2h" },
      })
      .catch((lost) => (tries < 5 ? undefined : Promise.reject(lost)));
    const mayChange = !answer || answer.response.status === 429 || answer.response.status >= 500;
    if (answer && (!mayChange || tries === 5)) return answer;
    await sleep(500 * tries);
  }
}

const { data: ordered, error: problem } = await order();
if (problem) {
  console.error(problem.detail);
  for (const found of problem.findings) console.error(`  ${found.pointer ?? found.parameter ?? "-"}: ${found.detail}`);
  process.exit(1);
}

let call = ordered;
while (call.result === "open") {
  const { data, error } = await door.GET("/v1/calls/{id}", { params: { path: { id: call.id }, query: { wait: 30 } } });
  if (error) throw new Error(error.detail);
  call = data;
}
console.log(`${call.id}: ${call.result} after ${call.outcome?.seconds ?? 0} s`);
