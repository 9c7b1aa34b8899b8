import { expect, test } from 'vitest'
import { axisEnd, errorsIn, errorsOf, linesOf, pointsOf } from './series'

const sample = (seconds: number, events: number | null, rejected: number | null = null, store_errors: number | null = null) => ({
  at: new Date(seconds * 1000).toISOString(),
  events,
  lag_records: 0,
  lag_seconds: null,
  rejected,
  store_errors,
})

test('counts become rates over the time since the sample before, however long that was', () => {
  const points = pointsOf([sample(0, null), sample(10, 50), sample(30, 50), sample(40, null)], (one) => one.events, 1)
  expect(points.map((point) => point.value)).toEqual([undefined, 5, 2.5, undefined])
  expect(points.map((point) => point.at)).toEqual([0, 10_000, 30_000, 40_000])
  expect(pointsOf([sample(0, 1)], (one) => one.lag_seconds)[0]?.value).toBeUndefined()
})

test('errors are those of the last five minutes per minute, and all with since when', () => {
  expect(errorsIn([])).toBeUndefined()
  expect(errorsIn([sample(0, 1), sample(10, 1)]), 'unknown').toBeUndefined()
  const samples = Array.from({ length: 61 }, (_, index) => sample(index * 10, 0, index === 0 ? null : index < 20 ? 1 : 0, null))
  expect(errorsIn(samples)).toEqual({ rejected: 19, storeErrors: undefined, perMinute: 0, sinceMs: 0 })
  samples.push(sample(610, 0, 10, 0))
  expect(errorsIn(samples)).toMatchObject({ rejected: 29, storeErrors: 0, perMinute: 2 })
  expect(errorsIn([sample(0, 0), sample(10, 0, 1, 1)])).toMatchObject({ perMinute: 12 })
  expect(errorsOf(sample(0, 0, null, 2))).toBe(2)
})

test('axes end at a round number, and lines have gaps where nothing is known', () => {
  expect([0, 0.03, 1, 1.1, 4, 6, 1_234, Number.NaN].map(axisEnd)).toEqual([1, 0.05, 1, 2, 5, 10, 2_000, 1])
  const points = [1, 2, undefined, 4].map((value, index) => ({ at: index * 10, value }))
  expect(linesOf(points, 4)).toEqual(['0.0000,0.7500 0.3333,0.5000', '1.0000,0.0000 1.0000,0.0000'])
})
