// A client as oapi-codegen makes it: posts one event and a batch, and reads what became of them.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"tally.example/clients/tally"
)

func check(holds bool, what string, got any) {
	if !holds {
		log.Fatalf("Go: %s: %s", what, got)
	}
}

func of[T any](value T) *T { return &value }

func main() {
	ctx := context.Background()
	client, err := tally.NewClientWithResponses(os.Args[1])
	check(err == nil, "the client", err)
	subject := "article:go-用"

	var at, atMs tally.Event_OccurredAt
	check(at.FromEventOccurredAt0(time.Now()) == nil, "a time as text", nil)
	check(atMs.FromEventOccurredAt1(time.Now().UnixMilli()) == nil, "a time as a number", nil)
	properties := tally.Properties{}
	var source, position, first tally.Properties_AdditionalProperties
	check(source.FromProperties0("feed") == nil, "a text", nil)
	check(position.FromProperties1(3.5) == nil, "a number", nil)
	check(first.FromProperties2(true) == nil, "a boolean", nil)
	properties["source"], properties["position"], properties["first"] = source, position, first

	one := tally.Event{EventId: "go-1", Type: tally.EventType("like"), ActorId: of("go"), SubjectId: subject, OccurredAt: &at, Properties: &properties}
	var events tally.Events
	check(events.FromEvent(one) == nil, "one event", nil)
	posted, err := client.PostEventsWithResponse(ctx, nil, events)
	check(err == nil, "one event", err)
	check(posted.JSON202 != nil && posted.JSON202.Accepted == 1 && len(posted.JSON202.Rejected) == 0, "one event", posted.Body)

	batch := tally.EventBatch{
		{EventId: "go-2", Type: tally.EventType("view"), SubjectId: subject, OccurredAt: &atMs},
		{EventId: "go-3", Type: tally.EventType("read"), SubjectId: subject, DurationMs: of(int64(6000))},
		{EventId: "go 4", Type: tally.EventType("like"), ActorId: of("go"), SubjectId: subject},
	}
	check(events.FromEventBatch(batch) == nil, "a batch", nil)
	batched, err := client.PostEventsWithResponse(ctx, nil, events)
	check(err == nil, "a batch", err)
	check(batched.JSON202 != nil && batched.JSON202.Accepted == 2, "a batch", batched.Body)
	rejected := batched.JSON202.Rejected
	check(len(rejected) == 1 && rejected[0].Index == 2 && *rejected[0].EventId == "go 4", "its last event is invalid", batched.Body)

	data := tally.CloudEventData{ActorId: of("go")}
	cloud := tally.CloudEvent{Specversion: "1.0", Id: "go-5", Source: "/go", Type: "share", Subject: subject, Data: &data}
	cloudy, err := client.PostEventsWithApplicationCloudeventsPlusJSONBodyWithResponse(ctx, nil, cloud)
	check(err == nil && cloudy.JSON202 != nil && cloudy.JSON202.Accepted == 1, "a CloudEvent", cloudy.Body)

	one.SubjectId = "nothing"
	check(events.FromEvent(one) == nil, "an invalid event", nil)
	refused, err := client.PostEventsWithResponse(ctx, nil, events)
	check(err == nil, "an invalid event", err)
	problem := refused.ApplicationproblemJSON422
	check(problem != nil && *(*problem.Rejected)[0].EventId == "go-1", "an invalid event is refused and named", refused.Body)

	query := tally.ManyCountersParams{SubjectId: []string{subject, "article:x"}, ActorId: of("go"), After: &posted.JSON202.Receipt, WaitMs: of(int64(10000))}
	many, err := client.ManyCountersWithResponse(ctx, &query)
	check(err == nil && many.JSON200 != nil && len(many.JSON200.Items) == 2, "many counters", err)
	check((*many.JSON200.Items[0].Viewer)["likes"], "the viewer", many.Body)

	receipt := batched.JSON202.Receipt
	read, err := client.SubjectCountersWithResponse(ctx, subject, &tally.SubjectCountersParams{After: &receipt, WaitMs: of(int64(10000))})
	check(err == nil && read.JSON200 != nil, "counters", err)
	totals, err := read.JSON200.AsSubjectAnswer()
	check(err == nil && *totals.After == "applied", "counters", read.Body)
	for _, metric := range []string{"likes", "views"} {
		count, err := totals.Counters[metric].AsMetricJson0()
		check(err == nil && count == 1, "counters", read.Body)
	}

	state, err := client.ReceiptWithResponse(ctx, receipt)
	check(err == nil && state.JSON200 != nil && len(*state.JSON200.NotCounted) == 0, "the receipt", err)
}
