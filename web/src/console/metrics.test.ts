import { expect, test } from 'vitest'
import { parseMetrics, sum } from './metrics'
import { Readings } from './readings'

const text = (valid: number, lag = 3) => `# HELP tally_node_records_total x
# TYPE tally_node_records_total counter
tally_node_records_total{node="valid"} ${valid}
tally_node_records_total{node="a\\"b,c"} 1e3
tally_sink_lag_records{sink="database",topic="counters",partition="0"} ${lag}
tally_sink_lag_records{sink="database",topic="reactions",partition="1"} 4
tally_task_clock_milliseconds{task="user-actions/0"} 9000
tally_task_clock_milliseconds{task="user-actions/1"} 8000
tally_http_connections 2
`

test('samples are found by their labels and added up', () => {
  const metrics = parseMetrics(text(10))
  expect(sum(metrics, 'tally_node_records_total', { node: 'a"b,c' })).toBe(1_000)
  expect(sum(metrics, 'tally_sink_lag_records', { sink: 'database' })).toBe(7)
  expect(sum(metrics, 'tally_http_connections')).toBe(2)
  expect(sum(metrics, 'tally_nothing')).toBeUndefined()
})

test('rates are differences, and a process that began anew has none', () => {
  let readings = new Readings().next(parseMetrics(text(10)), undefined, 10_000)
  expect(readings.of({ id: '', name: 'valid', kind: 'processor', type: 'decode', subtopology: 'user-actions' })).toEqual({
    rate: undefined,
    lagRecords: undefined,
    lagSeconds: 2,
    errors: undefined,
    isBroken: false,
  })
  readings = readings.next(parseMetrics(text(30)), undefined, 12_000)
  expect(readings.of({ id: '', name: 'valid', kind: 'processor', type: 'decode' }).rate).toBe(10)
  expect(readings.of({ id: '', name: 'database', kind: 'sink', type: 'database' }).lagRecords).toBe(7)
  expect(readings.of({ id: '', name: 'counters', kind: 'topic', type: 'counters' }).lagRecords).toBe(3)
  readings = readings.next(parseMetrics(text(5)), undefined, 14_000)
  expect(readings.of({ id: '', name: 'valid', kind: 'processor', type: 'decode' }).rate).toBeUndefined()
})
