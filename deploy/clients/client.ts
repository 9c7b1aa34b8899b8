// A client as openapi-typescript makes it: posts one event and a batch, and reads what became of them.
import createClient from "openapi-fetch";
import type { components, paths } from "./tally.js";

type Event = components["schemas"]["Event"];

declare const process: { argv: string[] };

function check(holds: unknown, what: string): asserts holds {
  if (!holds) throw new Error(`TypeScript: ${what}`);
}

const subject_id = "article:typescript 用".replace(" ", "-");
const tally = createClient<paths>({ baseUrl: process.argv[2]! });

const one: Event = {
  event_id: "ts-1",
  type: "like",
  actor_id: "ts",
  subject_id,
  occurred_at: new Date().toISOString(),
  properties: { source: "feed", position: 3, score: 0.5, first: true },
};
const posted = await tally.POST("/v1/events", { body: one });
check(posted.data?.accepted === 1 && posted.data.rejected.length === 0, `one event: ${JSON.stringify(posted.error)}`);

const batch: Event[] = [
  { event_id: "ts-2", type: "view", subject_id, occurred_at: Date.now() },
  { event_id: "ts-3", type: "read", subject_id, duration_ms: 6_000 },
  { event_id: "ts 4", type: "like", actor_id: "ts", subject_id },
];
const batched = await tally.POST("/v1/events", { body: batch });
check(batched.data?.accepted === 2, `a batch: ${JSON.stringify(batched.error)}`);
check(batched.data.rejected[0]?.index === 2 && batched.data.rejected[0].event_id === "ts 4", "its last event is invalid");

const cloud: components["schemas"]["CloudEvent"] = {
  specversion: "1.0",
  id: "ts-5",
  source: "/ts",
  type: "share",
  subject: subject_id,
  time: new Date().toISOString(),
  data: { actor_id: "ts" },
};
const cloudy = await tally.POST("/v1/events", {
  body: cloud,
  headers: { "content-type": "application/cloudevents+json" },
});
check(cloudy.data?.accepted === 1, `a CloudEvent: ${JSON.stringify(cloudy.error)}`);

const refused = await tally.POST("/v1/events", { body: { ...one, subject_id: "nothing" } });
check(refused.response.status === 422 && refused.error, "an invalid event is refused");
check("rejected" in refused.error && refused.error.rejected?.[0]?.event_id === "ts-1", "and named");

const many = await tally.GET("/v1/counters", {
  params: { query: { subject_id: [subject_id, "article:x"], actor_id: "ts", after: posted.data.receipt, wait_ms: 10_000 } },
});
check(many.data?.items.length === 2 && many.data.items[0]?.viewer?.likes === true, `many: ${JSON.stringify(many)}`);

const after = batched.data.receipt;
const read = await tally.GET("/v1/subjects/{subject_id}/counters", {
  params: { path: { subject_id }, query: { after, wait_ms: 10_000 } },
});
check(read.data && "counters" in read.data, `counters: ${JSON.stringify(read.error)}`);
check(read.data.after === "applied" && read.data.counters.likes === 1 && read.data.counters.views === 1, "counters");

const receipt = await tally.GET("/v1/receipts/{receipt}", { params: { path: { receipt: after } } });
check(["applied", "pending"].includes(receipt.data?.state ?? "") && receipt.data?.not_counted?.length === 0, "the receipt");
